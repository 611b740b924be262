//! Many nodes: they all run, and what one costs is printed.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::iter;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::InstanceState;

use crate::bench::{Corner, run};
use crate::{Test, Verdict};

pub(crate) const TESTS: &[Test] = &[("scale::many_nodes_start_and_leave_nothing", many_nodes_start_and_leave_nothing)];

/// Memory of a process that nobody else uses, in KiB.
fn private(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    text.lines().filter(|line| line.starts_with("Private_")).filter_map(field).sum()
}

/// Processor time of a process with one thread, in microseconds, and of its children that have ended, to ten
/// milliseconds.
fn processor(pid: i32) -> [u64; 2] {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let numbers = |text: &str| text.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect::<Vec<u64>>();
    let ticks = numbers(read("stat").rsplit(')').next().unwrap());
    [numbers(&read("schedstat"))[0] / 1000, (ticks[13] + ticks[14]) * 10_000]
}

/// Memory of the whole machine that is in use, in KiB.
fn in_use() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<i64>().unwrap()
    };
    field("MemTotal") - field("MemFree") - field("Buffers") - field("Cached") - field("SReclaimable")
}

fn many_nodes_start_and_leave_nothing() -> Verdict {
    let count: u64 = std::env::var("LIFECYCLE_NETNS_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    run(Corner::new(), async move |corner| {
        let provider = corner.provider();
        let width = provider.capabilities().concurrency;
        let before = in_use();
        let begin = Instant::now();
        let nodes: Vec<_> = iter(1..=count)
            .map(|number| (Arc::clone(&provider), corner.request(number)))
            .map(|(provider, request)| async move { provider.create_node(&request).await.unwrap().instance })
            .buffer_unordered(width)
            .collect()
            .await;
        let created = begin.elapsed();
        let keeper = corner.keeper().unwrap();
        let keeper_after_create = processor(keeper)[0];
        iter(&nodes).for_each_concurrent(width, |node| async { provider.start_node(node).await.unwrap() }).await;
        let running = begin.elapsed();
        let launched = processor(keeper);
        let building: u64 = corner
            .processes()
            .iter()
            .filter(|(_, name)| name.starts_with("lc:"))
            .map(|(pid, _)| processor(*pid)[0])
            .sum();
        let list = provider.list_nodes().await.unwrap();
        assert_eq!(list.len() as u64, count);
        assert!(list.iter().all(|node| node.state == InstanceState::Running));
        let inits: Vec<u64> = corner
            .processes()
            .into_iter()
            .filter(|(_, name)| name.starts_with("lc:"))
            .map(|(pid, _)| private(pid))
            .collect();
        assert_eq!(inits.len() as u64, count);
        let memory = in_use() - before;
        let begin = Instant::now();
        iter(&nodes).for_each_concurrent(width, |node| async { provider.destroy_node(node).await.unwrap() }).await;
        let each = |time: Duration| time.as_secs_f64() * 1e3 / count as f64;
        let share = |micros: u64| micros as f64 / 1e3 / count as f64;
        println!(
            "{count} nodes, milliseconds each: create {:.2}, start {:.2}, destroy {:.2}; of a processor: create {:.2}, \
             launch {:.2}, build {:.2}; KiB each: {} private to the init, {} of the machine; keeper {} KiB",
            each(created),
            each(running - created),
            each(begin.elapsed()),
            share(keeper_after_create),
            share(launched[0] - keeper_after_create + launched[1]),
            share(building),
            inits.iter().sum::<u64>() / count,
            memory / i64::try_from(count).unwrap(),
            corner.keeper().map_or(0, private),
        );
        Ok(())
    })
}
