//! The HTTP listener: health and metrics, in as much HTTP/1.1 as that takes.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A request's line and headers may take this much.
const MAX_REQUEST_BYTES: usize = 8 << 10;

/// A request and its answer may take this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the listener shows.
pub trait Status: Send + Sync + 'static {
    /// Whether the node takes new sessions.
    fn is_serving(&self) -> bool;
    /// Name, help and value of each metric.
    fn metrics(&self) -> Vec<(&'static str, &'static str, u64)>;
}

/// Answers requests for ever.
pub async fn serve(listener: TcpListener, status: Arc<dyn Status>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(&status)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, status: Arc<dyn Status>) {
    let _ = timeout(REQUEST_TIMEOUT, answer(stream, &*status)).await;
}

async fn answer(mut stream: TcpStream, status: &dyn Status) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    let (code, body) = match (method, path) {
        (b"GET" | b"HEAD", b"/health") if status.is_serving() => ("200 OK", "ok\n".to_owned()),
        (b"GET" | b"HEAD", b"/health") => ("503 Service Unavailable", "draining\n".to_owned()),
        (b"GET" | b"HEAD", b"/metrics") => ("200 OK", metrics(status)),
        (b"GET" | b"HEAD", _) => ("404 Not Found", "try /health or /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET is answered\n".to_owned()),
    };
    let mut response = format!(
        "HTTP/1.1 {code}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if method != b"HEAD" {
        response.push_str(&body);
    }
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Prometheus's text format.
fn metrics(status: &dyn Status) -> String {
    let mut text = String::new();
    for (name, help, value) in status.metrics() {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
            .expect("writing to a string");
    }
    text
}
