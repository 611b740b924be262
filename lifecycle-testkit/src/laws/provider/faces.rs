//! The laws of a provider's optional faces: commands, output, consoles, images and capacity.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{
    ConsoleRequest, ConsoleSession, ExecOutput, ExecRequest, InstanceRef, InstanceState, LogChunk, LogRequest,
};
use lifecycle_core::topology::ImagePullPolicy;
use tokio::time::timeout;

use super::super::runner::eventually;
use super::super::{Skip, Verdict};
use super::Bench;

/// Output that shows that a command runs, which the command's own text must not contain.
const READY: &str = "ready-42";

async fn exec(
    provider: &Arc<dyn Provider>,
    node: &InstanceRef,
    request: &ExecRequest,
) -> lifecycle_core::Result<ExecOutput> {
    provider.exec().expect("the face of the capability").exec(node, request).await
}

/// Skips unless a node has the shell that a law runs commands with.
async fn needs_shell(provider: &Arc<dyn Provider>, node: &InstanceRef) -> Verdict {
    match exec(provider, node, &ExecRequest::new(["sh", "-c", "true"])).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Skip::new("sh", "the fixture's nodes have no shell")),
        result => {
            result.expect("exec of a shell");
            Ok(())
        }
    }
}

pub(super) async fn exec_returns_the_commands_own_result(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    Skip::unless(provider.capabilities().exec, "exec")?;
    let instance = bench.able(1).await;
    needs_shell(&provider, &instance).await?;
    let mut request = ExecRequest::new(["sh", "-c", "echo out $WORD; echo err >&2; exit 3"]);
    request.env.insert("WORD".to_owned(), "a  b".to_owned());
    let output = exec(&provider, &instance, &request).await.expect("exec");
    assert_eq!((output.exit.code, output.exit.signal), (Some(3), None));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out a b\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    assert!(!output.truncated);
    let output = exec(&provider, &instance, &ExecRequest::new(["sh", "-c", "kill -9 $$"])).await.expect("exec");
    assert_eq!((output.exit.code, output.exit.signal), (None, Some(9)));
    Ok(())
}

pub(super) async fn exec_of_a_missing_command_is_not_found(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    Skip::unless(provider.capabilities().exec, "exec")?;
    let instance = bench.able(1).await;
    for command in ["/no/such/command", "no-such-command"] {
        let error = exec(&provider, &instance, &ExecRequest::new([command])).await.expect_err(command);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    Ok(())
}

pub(super) async fn exec_in_a_node_that_does_not_run_is_a_conflict(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    Skip::unless(provider.capabilities().exec, "exec")?;
    let instance = bench.created(1).await;
    let refused = async |when: &str| {
        let error = exec(&provider, &instance, &ExecRequest::new(["true"])).await.expect_err(when);
        assert_eq!(error.kind(), ErrorKind::Conflict, "{when}: {error:?}");
    };
    refused("before the first start").await;
    provider.start_node(&instance).await.expect("start");
    bench.stop(&instance).await.expect("stop");
    refused("after a stop").await;
    Ok(())
}

pub(super) async fn exec_ends_with_its_time(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    Skip::unless(provider.capabilities().exec, "exec")?;
    let instance = bench.able(1).await;
    needs_shell(&provider, &instance).await?;
    let mut request = ExecRequest::new(["sleep", "4242"]);
    request.timeout = Some(Duration::from_millis(300));
    let begin = Instant::now();
    // Whether a command that was killed for its time is an error or an output is the provider's choice.
    drop(exec(&provider, &instance, &request).await);
    assert!(begin.elapsed() < Duration::from_secs(10), "the time-out was not kept");
    request.timeout = None;
    drop(timeout(Duration::from_millis(300), exec(&provider, &instance, &request)).await);
    let count = ExecRequest::new(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep [4]242'"]);
    eventually("killed commands are gone", async || {
        let output = exec(&provider, &instance, &count).await.expect("exec");
        output.stdout.trim_ascii() == b"0"
    })
    .await;
    Ok(())
}

pub(super) async fn logs_survive_the_end_and_a_restart(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    Skip::unless(provider.capabilities().logs, "logs")?;
    let spec = bench.fixture.script("echo to-out; echo to-err >&2; exit 0")?;
    let instance = bench.create(&bench.request(1, spec)).await;
    for round in 1..=2 {
        provider.start_node(&instance).await.expect("start");
        eventually("the process ended", async || matches!(bench.state(&instance).await, InstanceState::Exited(_)))
            .await;
        for provider in [&provider, &bench.fixture.reopened()] {
            let lines = read(provider, &instance, None).await;
            assert_eq!(lines.iter().filter(|(stderr, line)| !stderr && line == "to-out").count(), round, "{lines:?}");
            assert_eq!(lines.iter().filter(|(_, line)| line == "to-err").count(), round, "{lines:?}");
        }
    }
    assert_eq!(read(&provider, &instance, Some(1)).await.len(), 1);
    Ok(())
}

async fn read(provider: &Arc<dyn Provider>, instance: &InstanceRef, tail: Option<usize>) -> Vec<(bool, String)> {
    let face = provider.logs().expect("the face of the capability");
    let stream = face.logs(instance, &LogRequest { tail, follow: false }).await.expect("logs");
    let chunks: Vec<_> = timeout(Duration::from_secs(10), stream.collect()).await.expect("logs that do not follow end");
    let text = |line: &[u8]| String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
    let chunk = |chunk: lifecycle_core::Result<_>| chunk.expect("a line");
    chunks.into_iter().map(chunk).map(|chunk: LogChunk| (chunk.stderr, text(&chunk.line))).collect()
}

pub(super) async fn a_console_survives_its_watcher(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    Skip::unless(provider.capabilities().console, "console")?;
    let spec = bench.fixture.script("while read line; do echo ready-$line; done; exit 5")?;
    let instance = bench.create(&bench.request(1, spec)).await;
    provider.start_node(&instance).await.expect("start");
    let request = ConsoleRequest { argv: None, columns: 80, rows: 24 };
    for _ in 0..2 {
        let face = provider.console().expect("the face of the capability");
        let mut session = face.open(&instance, &request).await.expect("console");
        session.input.write(b"42\n").await.expect("type");
        hear(&mut session).await;
    }
    assert_eq!(bench.state(&instance).await, InstanceState::Running, "dropping a session ended the program");
    Ok(())
}

async fn hear(session: &mut ConsoleSession) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(READY) {
        let piece = timeout(Duration::from_secs(10), session.output.next()).await;
        let piece = piece.unwrap_or_else(|_| panic!("the console only said {:?}", String::from_utf8_lossy(&seen)));
        seen.extend(piece.expect("the console ended").expect("output"));
    }
}

pub(super) async fn looking_images_up_changes_nothing(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    Skip::unless(provider.capabilities().images, "images")?;
    let images = provider.images().expect("the face of the capability");
    let mut spec = bench.fixture.sleeper();
    images.ensure(&spec, ImagePullPolicy::IfNotPresent).await.expect("the image of the fixture's own node");
    for _ in 0..2 {
        assert!(images.is_present(&spec).await.expect("look up"), "what was ensured is not found");
    }
    spec.image = Some("lifecycle.invalid/no-such-image:0".to_owned());
    for _ in 0..2 {
        assert!(!images.is_present(&spec).await.expect("look up"), "looking up made it appear");
    }
    let error = images.ensure(&spec, ImagePullPolicy::Never).await.expect_err("an image that does not exist");
    assert_eq!(error.kind(), ErrorKind::ImageUnavailable, "{error:?}");
    Ok(())
}

pub(super) async fn capacity_is_told(bench: &Bench) -> Verdict {
    let provider = bench.provider();
    Skip::unless(provider.capabilities().resources, "resources")?;
    let capacity = provider.resources().expect("the face of the capability").capacity().await.expect("capacity");
    assert!(capacity.memory > 0 && capacity.cpu > 0.0, "{capacity:?}");
    Ok(())
}
