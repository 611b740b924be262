//! The store among several processes: killed in the middle of commits, held by another, on a full or read-only disk.
//!
//! The test binary starts itself again as the other process; what that one is to do stands in an environment variable.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

use lifecycle_core::ErrorKind;
use lifecycle_store_sqlite::{Settings, SqliteStore};
use lifecycle_testkit::laws::{Skip, Suite, Verdict};

use common::{after, assert_whole, full_batch, open, run};

/// What a child is to do; its only argument is the state directory.
const TASK: &str = "LIFECYCLE_SQLITE_TEST_TASK";

/// Rounds of killing.
const ROUNDS: u64 = 100;

fn main() -> ExitCode {
    if let Ok(task) = std::env::var(TASK) {
        let directory = PathBuf::from(std::env::args().nth(1).unwrap());
        match task.as_str() {
            "commit" => commit_for_ever(&directory),
            "use" => use_once(&directory),
            "fill" => fill(&directory),
            "read-only mount" => read_only_mount(&directory),
            other => panic!("no task is called {other}"),
        }
        return ExitCode::SUCCESS;
    }
    Suite::new()
        .law("a_killed_process_leaves_whole_batches_and_all_it_was_told_of", async || killed().await)
        .law("a_second_process_is_told_who_holds_the_state", async || second_process().await)
        .law("a_state_is_free_at_once_when_its_holder_is_killed", async || holder_killed().await)
        .law("a_full_disk_leaves_the_store_usable", async || in_own_mounts("fill"))
        .law("a_read_only_mount_is_refused_with_advice", async || in_own_mounts("read-only mount"))
        .law("a_read_only_directory_is_refused_with_advice", async || read_only_directory().await)
        .run()
}

fn child(task: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(directory).env(TASK, task).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn commit_for_ever(directory: &Path) {
    run(async {
        let store = open(directory);
        let mut head = store.take_over("the child").await.unwrap();
        loop {
            let batch = full_batch(head);
            store.commit(&batch).await.unwrap();
            head = after(head, &batch);
            // Said only after the commit returned: what was said must still be there after the kill.
            println!("{}", head.batch);
            std::io::stdout().flush().unwrap();
        }
    });
}

async fn killed() -> Verdict {
    let directory = tempfile::tempdir().unwrap();
    let (mut told, mut cut) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = child("commit", directory.path()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..1 + round % 7 {
            told = lines.next().unwrap().unwrap().parse().unwrap();
        }
        std::thread::sleep(Duration::from_micros(round * 37 % 1500));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        told = lines.map_while(Result::ok).filter_map(|line| line.parse().ok()).last().unwrap_or(told);
        let found = assert_whole(&*open(directory.path())).await;
        assert!(found >= told, "round {round}: batch {told} was committed, but the last is {found}");
        cut += u64::from(found > told);
    }
    println!("{ROUNDS} kills over {told} batches; {cut} of them between a commit and its answer");
    Ok(())
}

fn use_once(directory: &Path) {
    let result = SqliteStore::open(directory, Settings::default()).and_then(|store| {
        use lifecycle_core::plugin::StateStore;
        run(async {
            let head = store.take_over("the child").await?;
            store.commit(&full_batch(head)).await
        })
    });
    match result {
        Ok(()) => println!("done"),
        Err(error) => println!("{error:?}"),
    }
}

async fn second_process() -> Verdict {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let head = store.take_over("the parent").await.unwrap();
    let answer = text(&child("use", directory.path()).output().unwrap());
    for part in [&format!("process {}", std::process::id()), "the parent", "(conflict)"] {
        assert!(answer.contains(part), "{answer}");
    }
    store.commit(&full_batch(head)).await.unwrap();
    store.release().await.unwrap();
    let output = child("use", directory.path()).output().unwrap();
    assert_eq!(text(&output), "done\n");
    let error = store.commit(&full_batch(after(head, &full_batch(head)))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(assert_whole(&*store).await, 2);
    Ok(())
}

async fn holder_killed() -> Verdict {
    let directory = tempfile::tempdir().unwrap();
    let mut child = child("commit", directory.path()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let store = open(directory.path());
    let error = store.take_over("the parent").await.unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", child.id())), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(store.take_over("the parent").await.unwrap().epoch, 2);
    Ok(())
}

/// Runs a task in a mount namespace of its own, so that what it mounts is gone with it.
fn in_own_mounts(task: &str) -> Verdict {
    let directory = tempfile::tempdir().unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "--"]);
    if !unshare.arg("true").output().is_ok_and(|output| output.status.success()) {
        return Err(Skip::new("mount_namespace", "no mount namespace can be made here"));
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .arg(directory.path())
        .env(TASK, task)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    Ok(())
}

fn mount(options: &[&str], directory: &Path) {
    let output = Command::new("mount").args(options).arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

fn fill(directory: &Path) {
    mount(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"], directory);
    let ballast = directory.join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    run(async {
        let store = open(directory);
        let mut head = store.take_over("the child").await.unwrap();
        let mut fill = async || {
            loop {
                let batch = full_batch(head);
                match store.commit(&batch).await {
                    Ok(()) => head = after(head, &batch),
                    Err(error) => return (error, head),
                }
            }
        };
        let (error, full) = fill().await;
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
        assert!(error.to_string().contains("Free some space"), "{error}");
        assert_eq!(assert_whole(&*store).await, full.batch);
        let again = store.commit(&full_batch(full)).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exhausted, "{again:?}");

        fs::remove_file(&ballast).unwrap();
        store.commit(&full_batch(full)).await.unwrap();
        assert_eq!(assert_whole(&*store).await, full.batch + 1);
        drop(store);
        assert_eq!(assert_whole(&*open(directory)).await, full.batch + 1);
    });

    // Without any space at all nothing is made, and nothing stands in the way of making it later.
    let empty = directory.join("another");
    fs::create_dir(&empty).unwrap();
    let rest = fs::write(&ballast, vec![0; 4 << 20]);
    assert!(rest.is_err());
    let error = SqliteStore::open(&empty, Settings::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
    fs::remove_file(&ballast).unwrap();
    run(async { assert_eq!(assert_whole(&*open(&empty)).await, 0) });
}

fn read_only_mount(directory: &Path) {
    mount(&["-t", "tmpfs", "-o", "size=8m", "tmpfs"], directory);
    run(async {
        let store = open(directory);
        let head = store.take_over("the child").await.unwrap();
        store.commit(&full_batch(head)).await.unwrap();
    });
    mount(&["-o", "remount,ro"], directory);
    for directory in [directory, &directory.join("another")] {
        assert_refused(&format!("{:?}", SqliteStore::open(directory, Settings::default()).unwrap_err()));
    }
    mount(&["-o", "remount,rw"], directory);
    run(async { assert_eq!(assert_whole(&*open(directory)).await, 1) });
}

fn assert_refused(answer: &str) {
    assert!(answer.contains("(permission_denied)"), "{answer}");
    assert!(answer.contains("writable for this user"), "{answer}");
}

async fn read_only_directory() -> Verdict {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let attempt = |directory: &Path| {
        let mut command = child("use", directory);
        if is_root {
            command.uid(1000).gid(1000);
        }
        command.output()
    };
    let directory = parent.path().join("state");
    fs::create_dir(&directory).unwrap();
    let (closed, open_again) = if is_root { (0o755, 0o777) } else { (0o555, 0o755) };
    let set = |mode| fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();

    set(closed);
    match attempt(&directory) {
        Ok(output) => assert_refused(&text(&output)),
        Err(error) => return Err(Skip::new("another_user", format!("cannot run as another user: {error}"))),
    }
    set(open_again);
    assert_eq!(text(&attempt(&directory).unwrap()), "done\n", "nothing of the refused attempt is in the way");

    set(closed);
    assert_refused(&text(&attempt(&directory).unwrap()));
    set(open_again);
    if is_root {
        // A database that belongs to somebody else, in a directory that does not.
        chown(directory.join("lifecycle.db"), Some(0), Some(0)).unwrap();
        assert_refused(&text(&attempt(&directory).unwrap()));
        chown(directory.join("lifecycle.db"), Some(1000), Some(1000)).unwrap();
    }
    assert_eq!(text(&attempt(&directory).unwrap()), "done\n");
    assert_eq!(assert_whole(&*open(&directory)).await, 2);
    Ok(())
}
