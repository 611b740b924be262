//! Commands in nodes, what nodes print, and their consoles.

use std::fs;
use std::time::Duration;

use futures_util::StreamExt;
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{
    ConsoleRequest, ConsoleSession, EXEC_OUTPUT_LIMIT, ExecRequest, InstanceRef, InstanceState, LogRequest,
    ProviderEvent,
};
use lifecycle_provider_netns::NetnsProvider;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::timeout;

use crate::bench::{Corner, eventually, run, sh, started, state};
use crate::{Test, Verdict};

pub(crate) const TESTS: &[Test] = &[
    ("faces::commands_have_their_own_output_and_end", commands_have_their_own_output_and_end),
    ("faces::a_command_ends_with_its_node", a_command_ends_with_its_node),
    ("faces::logs_are_bounded_and_followed", logs_are_bounded_and_followed),
    ("faces::output_and_errors_are_told_apart", output_and_errors_are_told_apart),
    ("faces::a_console_has_one_watcher_and_a_memory", a_console_has_one_watcher_and_a_memory),
    ("faces::a_program_on_a_console_has_its_own_end", a_program_on_a_console_has_its_own_end),
    ("faces::news_tell_of_ends_and_of_a_lost_keeper", news_tell_of_ends_and_of_a_lost_keeper),
];

fn commands_have_their_own_output_and_end() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.request(1)).await;
        let face = provider.exec().unwrap();
        // More than is kept, and a child that holds the output open for ever.
        let script = "sleep 1000 & head -c 6000000 /dev/zero; echo end >&2; exit 300";
        let output = face.exec(&node, &ExecRequest::new(["sh", "-c", script])).await.unwrap();
        assert_eq!(
            (output.exit.code, output.stdout.len(), output.truncated),
            (Some(300 % 256), EXEC_OUTPUT_LIMIT, true)
        );
        assert_eq!(output.stderr, b"end\n");
        let many = (0..20).map(async |number| sh(&provider, &node, &format!("echo {number}; exit {number}")).await);
        for (number, result) in (0..).zip(futures_util::future::join_all(many).await) {
            assert_eq!(result, (Some(number), number.to_string()));
        }
        let mut slow = ExecRequest::new(["sleep", "77"]);
        slow.timeout = Some(Duration::from_millis(200));
        assert_eq!(face.exec(&node, &slow).await.unwrap_err().kind(), ErrorKind::Timeout);
        eventually("the command was killed", async || sh(&provider, &node, "pgrep -fx 'sleep 77'").await.0 == Some(1))
            .await;
        let empty = ExecRequest::new(Vec::<String>::new());
        assert_eq!(face.exec(&node, &empty).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        provider.destroy_node(&node).await.unwrap();
        assert_eq!(face.exec(&node, &slow).await.unwrap_err().kind(), ErrorKind::NotFound);
        Ok(())
    })
}

fn a_command_ends_with_its_node() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.request(1)).await;
        let command = ExecRequest::new(["sleep", "1000"]);
        let (output, stopped) = tokio::join!(provider.exec().unwrap().exec(&node, &command), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            provider.stop_node(&node, Duration::from_secs(1)).await
        });
        stopped.unwrap();
        assert_eq!(output.unwrap().exit.signal, Some(9));
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn logs_are_bounded_and_followed() -> Verdict {
    run(Corner::with(json!({ "log_bytes": 100_000 })), async |corner| {
        let provider = corner.provider();
        let script = "read go; i=0; while [ $i -lt 6000 ]; do echo line $i of many that are written here; i=$((i+1)); done; sleep 1000";
        let node = started(&provider, &corner.script(1, script)).await;
        let face = provider.logs().unwrap();
        let mut followed = face.logs(&node, &LogRequest { tail: None, follow: true }).await.unwrap();
        let mut console = open(&provider, &node, None).await;
        console.input.write(b"go\n").await.unwrap();
        let mut seen = 0;
        while let Ok(Some(chunk)) = timeout(Duration::from_secs(10), followed.next()).await {
            let text = String::from_utf8(chunk.unwrap().line).unwrap();
            if let Some(number) = text.strip_prefix("line ").and_then(|rest| rest.split(' ').next()) {
                // Slower than the files are exchanged, a reader loses whole files, but never the order.
                let number: i32 = number.parse().unwrap();
                assert!(number >= seen, "{number} after {seen}");
                seen = number;
                if number == 5999 {
                    break;
                }
            }
        }
        assert_eq!(seen, 5999, "the last line did not arrive");
        let tail = face.logs(&node, &LogRequest { tail: Some(2), follow: false }).await.unwrap();
        let tail: Vec<_> = tail.map(|chunk| chunk.unwrap()).collect().await;
        assert_eq!(tail.len(), 2);
        assert!(tail[1].line.starts_with(b"line 5999 ") && tail[1].at.is_some());
        let directory = fs::read_dir(corner.context.state_dir.join("netns/nodes")).unwrap().next().unwrap().unwrap();
        let size = |name: &str| fs::metadata(directory.path().join(name)).unwrap().len();
        assert!(size("log") <= 100_000 && size("log.1") <= 100_000);
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn output_and_errors_are_told_apart() -> Verdict {
    let settings = json!({ "images": [{ "image": "plain", "terminal": false }] });
    run(Corner::with(settings), async |corner| {
        let provider = corner.provider();
        let mut request = corner.script(1, "cat; echo out; echo err >&2; printf unfinished");
        request.spec.image = Some("plain".into());
        let node = started(&provider, &request).await;
        eventually("it ended", async || matches!(state(&provider, &node).await, InstanceState::Exited(_))).await;
        let lines = provider.logs().unwrap().logs(&node, &LogRequest::default()).await.unwrap();
        let mut lines: Vec<_> =
            lines.map(|chunk| chunk.unwrap()).map(|chunk| (chunk.stderr, chunk.line)).collect().await;
        lines.sort();
        assert_eq!(lines, [(false, b"out".to_vec()), (false, b"unfinished".to_vec()), (true, b"err".to_vec())]);
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

async fn open(provider: &NetnsProvider, node: &InstanceRef, argv: Option<&[&str]>) -> ConsoleSession {
    let argv = argv.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
    let request = ConsoleRequest { argv, columns: 100, rows: 30 };
    provider.console().unwrap().open(node, &request).await.unwrap()
}

/// Reads a console until it shows `text`, or is over; returns all that was shown.
async fn read_until(session: &mut ConsoleSession, text: &str) -> String {
    let mut shown = String::new();
    while !shown.contains(text) {
        let piece = timeout(Duration::from_secs(10), session.output.next()).await;
        match piece.unwrap_or_else(|_| panic!("`{text}` was not shown, but: {shown}")) {
            Some(piece) => shown.push_str(&String::from_utf8_lossy(&piece.unwrap())),
            None => break,
        }
    }
    shown
}

fn a_console_has_one_watcher_and_a_memory() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.request(1)).await;
        let mut first = open(&provider, &node, None).await;
        first.input.write(b"MARK=kept; stty size; echo first-$((40+2))\n").await.unwrap();
        let shown = read_until(&mut first, "first-42").await;
        assert!(shown.contains("30 100"), "{shown}");
        // The client and its whole controller go; the shell does not.
        drop((first, provider));
        let provider = corner.newer(2);
        let mut second = open(&provider, &node, None).await;
        assert!(read_until(&mut second, "first-42").await.contains("first-42"), "the scrollback is empty");
        second.input.resize(70, 20).await.unwrap();
        second.input.write(b"stty size; echo $MARK-$((1+1))\n").await.unwrap();
        assert!(read_until(&mut second, "kept-2").await.contains("20 70"));
        // Somebody else takes it over.
        let mut third = open(&provider, &node, None).await;
        read_until(&mut second, "never shown").await;
        assert_eq!(second.input.exit().await.unwrap_err().kind(), ErrorKind::Conflict);
        // The keeper is not needed for it.
        kill(Pid::from_raw(corner.keeper().unwrap()), Signal::SIGKILL).unwrap();
        third.input.write(b"echo $MARK-$((2+2)); exit 6\n").await.unwrap();
        read_until(&mut third, "kept-4").await;
        read_until(&mut third, "never shown").await;
        assert_eq!(third.input.exit().await.unwrap().code, Some(6));
        // The next one gets a new shell.
        let mut fourth = eventually_open(&provider, &node).await;
        fourth.input.write(b"echo new-$MARK-$((3+3))\n").await.unwrap();
        read_until(&mut fourth, "new--6").await;
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

/// Opens the node's console once there is a keeper to ask where it is.
async fn eventually_open(provider: &NetnsProvider, node: &InstanceRef) -> ConsoleSession {
    eventually("there is a keeper", async || provider.list_nodes().await.is_ok()).await;
    open(provider, node, None).await
}

fn a_program_on_a_console_has_its_own_end() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = started(&provider, &corner.script(1, "echo on-the-console; sleep 1000")).await;
        let mut own = open(&provider, &node, None).await;
        read_until(&mut own, "on-the-console").await;
        let script = "tty; read word; echo got-$word; exit 9";
        let mut session = open(&provider, &node, Some(&["sh", "-c", script])).await;
        session.input.write(b"this\n").await.unwrap();
        let shown = read_until(&mut session, "never shown").await;
        assert!(shown.contains("/dev/pts/") && shown.contains("got-this"), "{shown}");
        assert_eq!(session.input.exit().await.unwrap().code, Some(9));
        assert_eq!(state(&provider, &node).await, InstanceState::Running);
        let request = ConsoleRequest { argv: Some(vec!["no-such-program".into()]), columns: 1, rows: 1 };
        let error = provider.console().unwrap().open(&node, &request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        provider.destroy_node(&node).await.unwrap();
        Ok(())
    })
}

fn news_tell_of_ends_and_of_a_lost_keeper() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let mut news = provider.watch();
        let node = started(&provider, &corner.script(1, "while [ ! -e /tmp/end ]; do sleep 0.02; done")).await;
        while let Ok(Some(_)) = timeout(Duration::from_millis(300), news.next()).await {}
        let begin = std::time::Instant::now();
        sh(&provider, &node, "touch /tmp/end").await;
        let event = timeout(Duration::from_secs(5), news.next()).await.unwrap();
        assert_eq!(event, Some(ProviderEvent::Changed(node.clone())));
        assert!(begin.elapsed() < Duration::from_secs(2), "the end was heard of late");
        kill(Pid::from_raw(corner.keeper().unwrap()), Signal::SIGKILL).unwrap();
        eventually("the loss is told", async || {
            matches!(timeout(Duration::from_secs(5), news.next()).await, Ok(Some(ProviderEvent::Resync)))
        })
        .await;
        eventually("the node is removed", async || provider.destroy_node(&node).await.is_ok()).await;
        drop(provider);
        eventually("the news end with the provider", async || news.next().await.is_none()).await;
        Ok(())
    })
}
