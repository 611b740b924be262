//! The client against a real server: mirrors, logs and consoles.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Served, chain, lab_name, node_name};
use futures_util::StreamExt;
use lifecycle_controller::api::wire::ConsoleClose;
use lifecycle_controller::cli::target::Target;
use lifecycle_controller::client::{Client, Shown, follow};
use lifecycle_controller::failure::Exit;

fn target() -> Target {
    Target { lab: lab_name("one"), node: node_name("n0") }
}

#[tokio::test]
async fn without_a_controller_a_client_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let failure = Client::connect(&directory.path().join("api.sock"), directory.path()).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.message.contains("lifecycle up FILE"), "{failure}");
}

#[tokio::test]
async fn a_mirror_ends_with_the_controllers_own_view() {
    let served = Served::start().await;
    served.up(chain("one", 2)).await;
    let client = served.client().await;
    let (mut mirror, mut feed) = follow(&client, &lab_name("one")).await.unwrap().unwrap();
    served.controller.apply("ann", chain("one", 4)).await.unwrap();
    served.up(chain("one", 4)).await;
    let lab = client.lab(&lab_name("one")).await.unwrap();
    while mirror.seq < lab.as_of_seq {
        mirror.next(&client, &mut feed).await.unwrap().unwrap();
    }
    assert!(mirror.nodes.values().eq({
        let mut nodes: Vec<_> = lab.nodes.iter().collect();
        nodes.sort_by_key(|node| node.id);
        nodes
    }));
    assert_eq!((mirror.links.len(), mirror.lab.as_ref()), (3, Some(&lab.lab)));

    served.controller.destroy("ann", lab_name("one")).await.unwrap();
    while mirror.lab.is_some() {
        mirror.next(&client, &mut feed).await.unwrap().unwrap();
    }
    assert!(mirror.nodes.is_empty());
    served.controller.shutdown().await;
    assert!(mirror.next(&client, &mut feed).await.is_ok_and(|end| end.is_none()));
}

#[tokio::test]
async fn logs_arrive_line_by_line() {
    let served = Served::start().await;
    served.up(chain("one", 1)).await;
    let lines = served.client().await.logs(&target(), None, true).await.unwrap();
    let lines: Vec<Vec<u8>> = lines.map(|line| line.unwrap().line.0).collect().await;
    assert_eq!(lines, [b"one\n".to_vec(), b"two\n".to_vec(), b"\xff\n".to_vec()]);
}

#[tokio::test]
async fn a_console_passes_bytes_sizes_and_its_end() {
    let served = Served::start().await;
    served.up(chain("one", 1)).await;
    let client = served.client().await;
    let argv = ["sh".to_owned(), "-c".to_owned(), "a & b".to_owned()];
    let mut console = client.console(&target(), &argv, 100, 40).await.unwrap();
    let mut shown = async |expected: &str| match console.next().await.unwrap() {
        Some(Shown::Bytes(bytes)) => assert_eq!(String::from_utf8_lossy(&bytes), expected),
        other => panic!("{other:?}"),
    };
    shown("100x40 Some([\"sh\", \"-c\", \"a & b\"])\n").await;
    console.write(vec![0, 255, 7]).await.unwrap();
    assert!(matches!(console.next().await.unwrap(), Some(Shown::Bytes(bytes)) if bytes == [0, 255, 7]));
    console.resize(80, 24).await.unwrap();
    assert!(matches!(console.next().await.unwrap(), Some(Shown::Bytes(bytes)) if bytes == b"80x24\n"));
    console.write(b"q".to_vec()).await.unwrap();
    let end = console.next().await.unwrap();
    assert!(matches!(end, Some(Shown::End(ConsoleClose::Exit { exit })) if exit.code == Some(3)));
    assert!(console.next().await.unwrap().is_none());
    let nobody = Target { node: node_name("n9"), ..target() };
    assert_eq!(client.console(&nobody, &[], 80, 24).await.unwrap_err().exit, Exit::NotFound);
}

#[tokio::test]
async fn a_console_without_a_program_runs_that_of_the_kind() {
    let served = Served::start().await;
    let mut topology = chain("one", 1);
    topology.nodes[0].kind = "shell".to_owned();
    served.up(topology).await;
    let mut console = served.client().await.console(&target(), &[], 80, 24).await.unwrap();
    let Some(Shown::Bytes(hello)) = console.next().await.unwrap() else { panic!("it ended") };
    assert_eq!(String::from_utf8(hello).unwrap(), "80x24 Some([\"cli\", \"-x\"])\n");
}
