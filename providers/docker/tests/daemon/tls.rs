//! A daemon that is spoken to over TCP, and who proves to whom who they are.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use lifecycle_linux::testing::container_daemon::{ContainerDaemon, Kind};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use crate::bench::{Corner, IMAGE, started, state};

const ADDRESS: &str = "tcp://127.0.0.1:2376";

/// Makes an authority, and a certificate of its for the daemon's address and one for its client.
fn certify(folder: &Path) {
    let run = |words: &str| {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    run(&format!("req -x509 {new} -subj /CN=authority -keyout authority.key -out ca.pem"));
    std::fs::write(folder.join("server.ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth").unwrap();
    std::fs::write(folder.join("client.ext"), "extendedKeyUsage=clientAuth").unwrap();
    for name in ["server", "client"] {
        run(&format!("req {new} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let signed = format!("-in {name}.csr -CA ca.pem -CAkey authority.key -CAcreateserial -days 2");
        run(&format!("x509 -req {signed} -extfile {name}.ext -out {name}.pem"));
    }
}

/// The settings of a client that trusts one authority and has a certificate of another, or of the same.
fn tls(trusts: &Path, has: &Path) -> Value {
    json!({ "tls": { "ca": trusts.join("ca.pem"), "cert": has.join("client.pem"), "key": has.join("client.key") } })
}

pub(crate) fn daemon_and_client_prove_who_they_are() {
    let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    [&ours, &others].iter().for_each(|folder| certify(folder.path()));
    let file = |name: &str| ours.path().join(name).display().to_string();
    let options = ["--host", ADDRESS, "--tlsverify"].map(str::to_owned).into_iter();
    let files = [("--tlscacert", "ca.pem"), ("--tlscert", "server.pem"), ("--tlskey", "server.key")];
    let options: Vec<String> =
        options.chain(files.iter().flat_map(|(it, name)| [(*it).to_owned(), file(name)])).collect();
    let daemon = ContainerDaemon::start_with_options(Kind::Docker, &options);
    daemon.import_busybox(IMAGE);
    let clients = [
        ("both are right", tls(ours.path(), ours.path()), true),
        ("the client is somebody else", tls(ours.path(), others.path()), false),
        ("the daemon is somebody else", tls(others.path(), ours.path()), false),
        ("in plain text", json!({}), false),
    ];
    // The daemon listens in its own network namespace, and a thread's sockets are where the thread is.
    let namespace = File::open(daemon.namespace()).unwrap();
    let client = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (number, (what, settings, works)) in (1..).zip(clients) {
            let corner = Corner { number, kind: Kind::Docker, endpoint: ADDRESS.to_owned(), settings };
            runtime.block_on(async {
                let provider = corner.provider();
                let listed = provider.list_nodes().await;
                assert_eq!(listed.is_ok(), works, "{what}: {listed:?}");
                if works {
                    let node = started(&provider, &corner.request(1)).await;
                    state(&provider, &node).await;
                    provider.destroy_node(&node).await.unwrap();
                }
            });
        }
    });
    client.join().unwrap();
}
