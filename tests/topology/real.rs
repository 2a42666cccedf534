//! One real server as a one-node cluster.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use slotway::backend::handshake::Credentials;
use slotway::topology::node::NodeAddr;
use slotway::topology::{TopologyConfig, fetch_once, render_text};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::running::{Running, config, run};

static DIRECTORIES: AtomicU64 = AtomicU64::new(0);

struct RealNode(std::process::Child, std::path::PathBuf);

impl Drop for RealNode {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = std::fs::remove_dir_all(&self.1);
    }
}

#[test]
fn a_real_server_with_the_least_acl() {
    run(|| async {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("slotway-topology-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let port = loop {
            // The bus takes port + 10000.
            let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
            if port < 55_000 {
                break port;
            }
        };
        let mut server = std::process::Command::new("redis-server");
        server.args([
            "--port",
            &port.to_string(),
            "--cluster-enabled",
            "yes",
            "--save",
            "",
            "--bind",
            "127.0.0.1",
        ]);
        let acl = "--user default on nopass ~* &* +@all --user proxy on >right ~* &* -@all +ping +info \
                   +cluster|slots +cluster|nodes +cluster|info";
        server.args(acl.split_whitespace());
        server.arg("--dir").arg(&dir).stdout(std::process::Stdio::null());
        let child = match server.spawn() {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("REQUIRE_REDIS").is_none(), "redis-server: {error}");
                eprintln!("SKIPPED: no redis-server on PATH ({error})");
                return;
            }
        };
        let _node = RealNode(child, dir);
        let mut admin = loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => break stream,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        let credentials =
            |password: &str| Credentials { username: Some("proxy".into()), password: Some(password.into()) };
        let seeds = vec![NodeAddr { host: "localhost".into(), port }];
        let with = |password| TopologyConfig { credentials: credentials(password), ..config(seeds.clone()) };
        let service = Running::start(with("right"));
        service.until("no slots", |t| t.not_ready_reason().unwrap().contains("no slots yet")).await;
        let wrong = fetch_once(with("wrong")).await.unwrap_err().to_string();
        assert!(wrong.contains("WRONGPASS"), "{wrong}");
        admin.write_all(b"CLUSTER ADDSLOTSRANGE 0 16383\r\n").await.unwrap();
        service.until("ready", |t| t.ready()).await;
        let id = service.topology.node_by_addr("127.0.0.1", port).unwrap();
        assert_eq!(
            service.topology.table().primary(12182),
            Some(id),
            "its own host is empty: the one dialled"
        );
        assert!(service.topology.server_version().unwrap().contains('.'));
        sleep(Duration::from_millis(300)).await;
        assert!(service.is_up(id));
        let shown = render_text(&fetch_once(with("right")).await.unwrap());
        assert!(shown.contains(&format!("127.0.0.1:{port}")), "{shown}");
    });
}

#[test]
fn snapshots_have_no_secrets() {
    let config = TopologyConfig {
        credentials: Credentials { username: None, password: Some("hush".into()) },
        ..config(Vec::new())
    };
    assert!(!format!("{config:?}").contains("hush"));
}
