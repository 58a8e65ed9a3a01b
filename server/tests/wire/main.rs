//! The connection loop over real sockets, with sessions that do as they are told. Golden scripts
//! print the messages.

mod client;
mod fields;
mod puppet;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cairn_server::connection::Budget;
use cairn_server::connection::listener::Listener;
use cairn_server::connection::registry::Registry;
use cairn_server::seams::SystemRng;
use client::{Client, message, packet, startup};
use proptest::prelude::*;
use puppet::{Puppeteer, Stage};
use tokio::sync::oneshot;

/// A listener on a runtime of its own.
struct Server {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    stage: Arc<Stage>,
    registry: Arc<Registry>,
    stop: Option<oneshot::Sender<Duration>>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    fn start(limit: usize) -> Server {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let puppeteer = Puppeteer::default();
        let stage = Arc::clone(&puppeteer.0);
        let registry = Registry::new(limit, Arc::new(SystemRng));
        let listener = Listener::new(puppeteer, Arc::clone(&registry), Budget::new(256 << 20));
        let (stop, stopped) = oneshot::channel();
        let socket = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = socket.local_addr().unwrap();
        let serving = runtime.spawn(listener.serve(socket, stopped));
        Server { runtime, address, stage, registry, stop: Some(stop), serving: Some(serving) }
    }

    fn stop(&mut self, drain: Duration) {
        self.stop.take().expect("stopped once").send(drain).expect("the listener listens");
    }

    fn ended(&mut self) {
        let serving = self.serving.take().expect("awaited once");
        self.runtime.block_on(serving).unwrap();
    }

    fn wait_until(&self, what: &str, condition: impl Fn(&Stage) -> bool) {
        let start = Instant::now();
        while !condition(&self.stage) {
            assert!(start.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Commands of the scripts. They send; `read` shows what came.
struct Script {
    server: Server,
    client: Option<Client>,
}

impl Script {
    fn client(&mut self) -> Result<&mut Client, Box<dyn Error>> {
        self.client.as_mut().ok_or_else(|| "connect first".into())
    }
}

/// A zero-terminated string for a message.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

impl goldenscript::Runner for Script {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut next = || args.next_pos().unwrap_or_default().to_owned();
        let bytes = match command.name.as_str() {
            // Startup parameters; `version=` is the protocol's.
            "connect" => {
                let mut version = 196_608;
                let mut parameters = Vec::new();
                while let Some((name, value)) = args.next_key() {
                    match name {
                        "version" => {
                            let (major, minor) = value.split_once('.').ok_or("major.minor")?;
                            version = major.parse::<u32>()? << 16 | minor.parse::<u32>()?;
                        }
                        _ => parameters.push((name, value)),
                    }
                }
                self.client = Some(Client::dial(self.server.address));
                startup(version, &parameters)
            }
            // An SSL request and a GSS request, each answered by one byte.
            "encrypt" => {
                let mut client = Client::dial(self.server.address);
                let mut answers = String::new();
                for code in [80_877_103u32, 80_877_104] {
                    client.send(&packet(&code.to_be_bytes()));
                    let mut answer = [0];
                    std::io::Read::read_exact(&mut client.stream, &mut answer)?;
                    answers.push(answer[0] as char);
                }
                client.send(&startup(196_608, &[("user", "postgres")]));
                let greeting = client.until_ready();
                self.client = Some(client);
                return Ok(format!("{answers}\n{greeting}"));
            }
            "query" => message('Q', &text(&next())),
            "parse" => message('P', &[text(""), text(&next()), vec![0, 0]].concat()),
            "bind" => {
                let parameter = next();
                let parameters = match parameter.as_str() {
                    "" => vec![0, 0],
                    value => [&[0, 1], &(value.len() as u32).to_be_bytes()[..], value.as_bytes()].concat(),
                };
                message('B', &[text(""), text(""), vec![0, 0], parameters, vec![0, 0]].concat())
            }
            "describe" => message('D', &[next().as_bytes(), &text("")].concat()),
            "execute" => {
                let max_rows: u32 = next().parse().unwrap_or(0);
                message('E', &[&text("")[..], &max_rows.to_be_bytes()].concat())
            }
            "close" => message('C', &[next().as_bytes(), &text("")].concat()),
            "sync" => message('S', b""),
            "flush" => message('H', b""),
            "copydata" => message('d', next().as_bytes()),
            "copydone" => message('c', b""),
            "copyfail" => message('f', &text(&next())),
            "terminate" => message('X', b""),
            // A message of any type, its body as it is.
            "raw" => {
                let kind = next();
                message(kind.chars().next().ok_or("a type")?, next().as_bytes())
            }
            // Messages up to the pipeline's end; with an argument, up to a message of that type.
            "read" => {
                let last = next();
                let client = self.client()?;
                return Ok(match last.bytes().next() {
                    Some(last) => client.until(|kind| kind == last),
                    None => client.until_ready(),
                });
            }
            name => return Err(format!("unknown command {name}").into()),
        };
        self.client()?.send(&bytes);
        Ok(String::new())
    }
}

#[test]
fn scripts() {
    for entry in std::fs::read_dir("tests/scripts/wire").unwrap() {
        let mut script = Script { server: Server::start(100), client: None };
        goldenscript::run(&mut script, entry.unwrap().path()).unwrap();
    }
}

#[test]
fn a_cancel_request_needs_the_key() {
    let server = Server::start(100);
    for (version, key_bytes) in [(196_608, 4), (196_610, 32)] {
        let mut client = Client::dial(server.address);
        client.send(&startup(version, &[("user", "postgres")]));
        client.until_ready();
        assert_eq!(client.key.len(), 4 + key_bytes);
        let cancel = |key: &[u8]| {
            Client::dial(server.address).send(&packet(&[&80_877_102u32.to_be_bytes(), key].concat()));
        };
        // Too early: forgotten when the statement begins.
        cancel(&client.key);
        std::thread::sleep(Duration::from_millis(50));
        client.send(&message('Q', b"wait\0"));
        server.wait_until("the statement runs", |stage| stage.waiting.load(Ordering::SeqCst) == 1);
        let mut wrong = client.key.clone();
        wrong[5] ^= 1;
        cancel(&wrong);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(server.stage.waiting.load(Ordering::SeqCst), 1);
        cancel(&client.key);
        let answer = client.until_ready();
        assert!(answer.contains("C=\"57014\" M=\"canceling statement due to user request\""), "{answer}");
        assert!(client.query("rows 1").contains("SELECT 1"));
    }
}

#[test]
fn copy_waits_for_data_until_canceled() {
    let server = Server::start(100);
    let mut client = Client::connect(server.address);
    assert!(client.query("copyin").starts_with("CopyInResponse"));
    Client::dial(server.address).send(&packet(&[&80_877_102u32.to_be_bytes(), &client.key[..]].concat()));
    let answer = client.until_ready();
    assert!(answer.contains("57014"), "{answer}");
}

#[test]
fn timeouts_speak_as_postgresql_does() {
    let server = Server::start(100);
    let mut client = Client::connect(server.address);
    client.query("statement_timeout 50");
    let answer = client.query("wait");
    assert!(answer.contains("C=\"57014\" M=\"canceling statement due to statement timeout\""), "{answer}");
    client.query("idle_timeout 50");
    let answer = client.until_ready();
    assert!(answer.contains("S=\"FATAL\" V=\"FATAL\" C=\"57P05\""), "{answer}");
    assert!(answer.ends_with("(closed)\n"));

    let mut client = Client::connect(server.address);
    client.query("begin");
    client.query("idle_timeout 50");
    let answer = client.until_ready();
    assert!(answer.contains("C=\"25P03\""), "{answer}");
}

#[test]
fn a_panic_ends_its_connection_only() {
    let server = Server::start(100);
    let mut other = Client::connect(server.address);
    let mut client = Client::connect(server.address);
    let answer = client.query("panic");
    assert!(answer.starts_with("ErrorResponse S=\"FATAL\" V=\"FATAL\" C=\"XX000\""), "{answer}");
    assert!(answer.ends_with("(closed)\n"));
    assert!(other.query("rows 1").contains("SELECT 1"));
    server.wait_until("its place is free", |_| server.registry.count() == 1);
}

#[test]
fn a_vanished_client_ends_its_statement() {
    let server = Server::start(100);
    let waits = |count| move |stage: &Stage| stage.waiting.load(Ordering::SeqCst) == count;
    let mut client = Client::connect(server.address);
    client.send(&message('Q', b"wait\0"));
    server.wait_until("the statement waits", waits(1));
    drop(client);
    server.wait_until("the statement has ended", waits(0));
    // A Terminate that was sent ahead does the same.
    let mut client = Client::connect(server.address);
    client.send(&[message('Q', b"wait\0"), message('X', b"")].concat());
    server.wait_until("the statement waits", waits(1));
    server.wait_until("the statement has ended", waits(0));
    server.wait_until("both sessions are closed", |stage| stage.closed.load(Ordering::SeqCst) == 2);
}

#[test]
fn too_many_connections_are_told_so() {
    let server = Server::start(1);
    let mut first = Client::connect(server.address);
    let mut second = Client::dial(server.address);
    second.send(&startup(196_608, &[("user", "postgres")]));
    let answer = second.until_ready();
    assert_eq!(
        answer,
        "ErrorResponse S=\"FATAL\" V=\"FATAL\" C=\"53300\" M=\"sorry, too many clients already\"\n(closed)\n"
    );
    first.send(&message('X', b""));
    server.wait_until("the place is free", |_| server.registry.count() == 0);
    Client::connect(server.address);
}

#[test]
fn draining_ends_idle_sessions_at_once_and_transactions_in_time() {
    let mut server = Server::start(100);
    let mut idle = Client::connect(server.address);
    let mut finishing = Client::connect(server.address);
    let mut waiting = Client::connect(server.address);
    finishing.query("begin");
    waiting.query("begin");
    waiting.send(&message('Q', b"wait\0"));
    server.wait_until("it waits", |stage| stage.waiting.load(Ordering::SeqCst) == 1);
    let start = Instant::now();
    server.stop(Duration::from_secs(1));
    assert!(idle.until_ready().contains("C=\"57P01\""));
    assert!(start.elapsed() < Duration::from_millis(500));
    assert!(finishing.query("rows 1").contains("ReadyForQuery T"));
    assert!(finishing.query("commit").ends_with("ReadyForQuery I\n"));
    assert!(finishing.until_ready().contains("C=\"57P01\""));
    assert!(waiting.until_ready().contains("C=\"57P01\""));
    assert!(start.elapsed() >= Duration::from_secs(1));
    server.ended();
    assert_eq!(server.stage.closed.load(Ordering::SeqCst), 3);
}

#[test]
fn a_slow_reader_does_not_hold_up_the_end() {
    let mut server = Server::start(100);
    let mut client = Client::connect(server.address);
    client.send(&message('Q', b"rows 20000000\0"));
    std::thread::sleep(Duration::from_millis(300));
    server.stop(Duration::ZERO);
    server.ended();
}

#[test]
fn output_waits_for_its_reader() {
    let server = Server::start(100);
    let mut client = Client::connect(server.address);
    client.send(&message('Q', b"copyout 1000000\0"));
    std::thread::sleep(Duration::from_millis(200));
    let mut lines = 0;
    while let Some((kind, body)) = client.read() {
        match kind {
            b'd' => {
                assert_eq!(body, format!("{lines}\n").as_bytes());
                lines += 1;
            }
            b'Z' => break,
            _ => {}
        }
    }
    assert_eq!(lines, 1_000_000);
}

#[test]
fn large_messages_are_taken_or_refused_and_their_memory_is_given_back() {
    let server = Server::start(100);
    let mut client = Client::connect(server.address);
    let statement = [b"length ".to_vec(), vec![b'x'; 50 << 20], vec![0]].concat();
    client.send(&message('Q', &statement));
    assert_eq!(
        client.until_ready(),
        format!("CommandComplete LENGTH {}\nReadyForQuery I\n", statement.len() - 1)
    );
    client.send(&message('Q', &vec![b'x'; 140 << 20]));
    let answer = client.until_ready();
    assert!(answer.contains("C=\"54000\"") && answer.ends_with("ReadyForQuery I\n"), "{answer}");
    let value = vec![b'x'; 100 << 20];
    let bind =
        [b"\0\0\0\0\0\x01".to_vec(), (value.len() as u32).to_be_bytes().to_vec(), value, vec![0, 0]].concat();
    client
        .send(&[message('P', b"\0length\0\0\0"), message('B', &bind), message('E', b"\0\0\0\0\0")].concat());
    client.send(&message('S', b""));
    assert!(client.until_ready().contains(&format!("LENGTH {}", (100 << 20) + 7)));
}

#[test]
fn copy_takes_data_cut_anywhere() {
    let server = Server::start(100);
    let mut client = Client::connect(server.address);
    client.query("copyin");
    let chunk = message('d', &[b'x'; 1000]);
    let mut bytes = chunk.repeat(3000);
    bytes.extend(message('c', b""));
    for part in bytes.chunks(777_777) {
        client.send(part);
    }
    assert_eq!(client.until_ready(), "CommandComplete COPY 1\nReadyForQuery I\n");
    assert_eq!(server.stage.copied.load(Ordering::SeqCst), 3_000_000);
}

#[test]
fn garbage_ends_its_connection_only() {
    let server = Server::start(1000);
    let good = std::cell::RefCell::new(Client::connect(server.address));
    let run = |started: bool, bytes: Vec<u8>| {
        let mut bad = if started { Client::connect(server.address) } else { Client::dial(server.address) };
        let _ = std::io::Write::write_all(&mut bad.stream, &bytes);
        let _ = bad.stream.shutdown(std::net::Shutdown::Write);
        // It ends, whatever it was.
        while let Some((kind, _)) = bad.read() {
            assert!(b"EZ123nstITDCGHcdSNRKvV".contains(&kind), "answered by {kind}");
        }
        assert!(good.borrow_mut().query("rows 1").contains("SELECT 1"));
    };
    proptest!(ProptestConfig::with_cases(300), |(
        started in any::<bool>(),
        kinds in proptest::collection::vec(proptest::sample::select(b"QPBDECSHdcfFXp?".to_vec()), 0..4),
        lengths in proptest::collection::vec(prop_oneof![Just(4i32), -5..50i32, any::<i32>()], 4),
        body in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..40),
    )| {
        let mut bytes = Vec::new();
        for (kind, length) in kinds.iter().zip(&lengths) {
            bytes.push(*kind);
            bytes.extend(length.to_be_bytes());
            bytes.extend(&body[..body.len().min(length.clamp(&4, &1000).unsigned_abs() as usize - 4)]);
        }
        bytes.extend(&body);
        run(started, bytes);
    });
}
