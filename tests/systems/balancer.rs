//! What a ClusterIP Service does: each new connection goes to one of the backends, drawn at random; one that
//! stands is never moved or cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One Service. Its threads end with the test process.
pub struct Balancer {
    addr: SocketAddr,
    backends: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Balancer {
    pub fn start(backends: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("its address");
        let backends = Arc::new(Mutex::new(backends));
        let choice = Arc::clone(&backends);
        std::thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(7);
            for client in listener.incoming().map_while(Result::ok) {
                let all = choice.lock().expect("backends").clone();
                let first = random.usize(0..all.len().max(1));
                // One that does not answer is no endpoint for long: the next.
                let turn = all.iter().cycle().skip(first).take(all.len());
                let open =
                    |addr: &SocketAddr| TcpStream::connect_timeout(addr, Duration::from_millis(300)).ok();
                if let Some(server) = turn.filter_map(open).next() {
                    join(client, server);
                }
            }
        });
        Self { addr, backends }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on new connections go to these.
    pub fn set(&self, backends: Vec<SocketAddr>) {
        *self.backends.lock().expect("backends") = backends;
    }
}

fn join(client: TcpStream, server: TcpStream) {
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let both = client.try_clone().and_then(|client| Ok((client, server.try_clone()?)));
    if let Ok((client_too, server_too)) = both {
        std::thread::spawn(move || copy(client, server));
        std::thread::spawn(move || copy(server_too, client_too));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
