//! The HTTP listener: health and metrics, in as much HTTP/1.1 as that takes.

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
    /// Why the node takes no new sessions, in a word; `None`: it does.
    fn refusal(&self) -> Option<&'static str>;
    /// What is measured, in OpenMetrics' text format.
    fn metrics(&self) -> String;
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
        (b"GET" | b"HEAD", b"/health") => match status.refusal() {
            None => ("200 OK", "ok\n".to_owned()),
            Some(why) => ("503 Service Unavailable", format!("{why}\n")),
        },
        (b"GET" | b"HEAD", b"/metrics") => ("200 OK", status.metrics()),
        (b"GET" | b"HEAD", _) => ("404 Not Found", "try /health or /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET is answered\n".to_owned()),
    };
    let kind = if path == b"/metrics" {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; charset=utf-8"
    };
    let mut response = format!(
        "HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if method != b"HEAD" {
        response.push_str(&body);
    }
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}
