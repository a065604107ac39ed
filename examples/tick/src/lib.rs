//! Three concurrent tasks in one thread, with the asynchronous calls of
//! WASI 0.3: two clocks that tick, and a conversation over TCP with itself.

use wasip3::cli::stdout;
use wasip3::clocks::monotonic_clock::{now, wait_for};
use wasip3::sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket};
use wasip3::wit_bindgen::{StreamReader, StreamResult};
use wasip3::wit_stream;

const MILLISECOND: u64 = 1_000_000;

struct Tick;

wasip3::cli::command::export!(Tick);

impl wasip3::exports::cli::run::Guest for Tick {
    async fn run() -> Result<(), ()> {
        let start = now();
        let tasks = futures::join!(clock("tick", 200, 4), clock("tock", 500, 2), echo(2));
        let took = (now() - start) / MILLISECOND;
        let ok = told("tick", tasks.0).await & told("tock", tasks.1).await & told("echo", tasks.2).await;
        let ended = say(&format!("three tasks took {took} ms")).await;
        if ok && ended.is_ok() {
            Ok(())
        } else {
            Err(())
        }
    }
}

/// Whether a task has done its work; tells why not.
async fn told(task: &str, done: Result<(), String>) -> bool {
    if let Err(why) = &done {
        // What can't be printed can't be told either.
        let _ = say(&format!("{task}: {why}")).await;
    }
    done.is_ok()
}

/// Says its name and the time so many times.
async fn clock(name: &str, milliseconds: u64, times: u64) -> Result<(), String> {
    for time in 1..=times {
        wait_for(milliseconds * MILLISECOND).await;
        say(&format!("{name} {}", time * milliseconds)).await?;
    }
    Ok(())
}

/// Listens on the loopback and speaks with itself there.
async fn echo(messages: u32) -> Result<(), String> {
    let server = TcpSocket::create(IpAddressFamily::Ipv4).map_err(said("creating"))?;
    // Port 0 is any port that is free.
    let any = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: 0,
        address: (127, 0, 0, 1),
    });
    server.bind(any).map_err(said("binding"))?;
    let connections = server.listen().map_err(said("listening"))?;
    let address = server.get_local_address().map_err(said("listening"))?;
    futures::try_join!(answer(connections), ask(address, messages))?;
    Ok(())
}

/// Sends back what the first connection sends.
async fn answer(mut connections: StreamReader<TcpSocket>) -> Result<(), String> {
    let connection = connections.next().await.ok_or("nobody has connected")?;
    // What is received is the very stream that is sent: the host moves the bytes.
    let (input, received) = connection.receive();
    connection.send(input).await.map_err(said("sending back"))?;
    received.await.map_err(said("receiving"))
}

/// Sends messages, and says what comes back.
async fn ask(address: IpSocketAddress, messages: u32) -> Result<(), String> {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(said("creating"))?;
    socket.connect(address).await.map_err(said("connecting"))?;
    let (mut output, data) = wit_stream::new();
    let sent = socket.send(data);
    let (mut input, received) = socket.receive();
    for number in 1..=messages {
        wait_for(350 * MILLISECOND).await;
        let message = format!("echo {number}");
        let length = message.len();
        if !output.write_all(message.into_bytes()).await.is_empty() {
            return Err("the connection was closed".to_string());
        }
        let mut answer = Vec::with_capacity(length);
        while answer.len() < length {
            let (result, bytes) = input.read(answer).await;
            answer = bytes;
            if result == StreamResult::Dropped {
                return Err("the connection was closed".to_string());
            }
        }
        say(&String::from_utf8_lossy(&answer)).await?;
    }
    // The end of what is sent is the end of what comes back.
    drop(output);
    sent.await.map_err(said("sending"))?;
    if input.next().await.is_some() {
        return Err("more came back than was sent".to_string());
    }
    received.await.map_err(said("receiving"))
}

/// Writes a line to stdout, as a stream of its own.
async fn say(line: &str) -> Result<(), String> {
    let (mut output, data) = wit_stream::new();
    let written = stdout::write_via_stream(data);
    output.write_all(format!("{line}\n").into_bytes()).await;
    drop(output);
    written.await.map_err(|error| format!("printing: {error:?}"))
}

/// An error as a message that says what was attempted.
fn said(what: &str) -> impl Fn(ErrorCode) -> String + '_ {
    move |code| format!("{what}: {code:?}")
}
