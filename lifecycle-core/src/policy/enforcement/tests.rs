use std::time::Duration;

use proptest::prelude::*;
use rand_core::{Infallible, Rng, TryRng};
use strum::VariantArray;

use super::*;
use crate::time::{BootId, Now, Timestamp};

/// A small deterministic generator.
struct SplitMix(u64);

impl TryRng for SplitMix {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|value| (value >> 32) as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(value ^ (value >> 31))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.iter_mut().for_each(|byte| *byte = self.next_u64() as u8);
        Ok(())
    }
}

const NOW: BootInstant = BootInstant { boot: BootId(1), millis: 1_000_000 };

fn facts(state: NodeState, intent: NodeIntent) -> EnforcementFacts {
    EnforcementFacts {
        state,
        intent,
        instance_exists: true,
        live_job: None,
        blocked: false,
        stale: false,
        given_up: false,
        due_millis: 0,
    }
}

/// One letter per state, in the order of the enum, for both intents.
fn rows(change: impl Fn(&mut EnforcementFacts)) -> [String; 2] {
    [NodeIntent::Running, NodeIntent::Stopped].map(|intent| {
        NodeState::VARIANTS
            .iter()
            .map(|&state| {
                let mut facts = facts(state, intent);
                change(&mut facts);
                match decide(&facts, NOW) {
                    EnforcementAction::None { reason: SkipReason::Matches } => '=',
                    EnforcementAction::None { reason: SkipReason::LiveJob } => 'j',
                    EnforcementAction::None { reason: SkipReason::Blocked } => 'b',
                    EnforcementAction::None { reason: SkipReason::GivenUp } => 'g',
                    EnforcementAction::None { reason: SkipReason::Stale } => 's',
                    EnforcementAction::WaitUntil { reason: SkipReason::UnderWay, millis } if millis > NOW.millis => 'u',
                    EnforcementAction::WaitUntil { reason: SkipReason::Backoff, millis } if millis > NOW.millis => 'w',
                    EnforcementAction::Deploy => 'D',
                    EnforcementAction::Start => 'S',
                    EnforcementAction::Stop => 'X',
                    EnforcementAction::Abort => 'A',
                    EnforcementAction::Resolve => 'R',
                    other => panic!("{other:?} in {state}"),
                }
            })
            .collect()
    })
}

#[test]
fn the_table() {
    // undeployed, pending, starting, running, stopping, stopped, exited, error
    assert_eq!(rows(|_| {}), ["DDR=RSSS", "=AXXR==X"]);
    assert_eq!(rows(|f| f.instance_exists = false), ["DDR=RDDD", "=AXXR==X"]);
    assert_eq!(rows(|f| f.due_millis = NOW.millis + 1), ["wDu=uwww", "=AXwu==w"]);
    assert_eq!(rows(|f| f.due_millis = NOW.millis), ["DDR=RSSS", "=AXXR==X"]);
    assert_eq!(rows(|f| f.given_up = true), ["gDR=Rggg", "=AXgR==g"]);
    assert_eq!(rows(|f| f.blocked = true), ["bRR=Rbbb", "=AXXR==X"]);
    assert_eq!(rows(|f| (f.blocked, f.due_millis) = (true, u64::MAX)), ["bbu=ubbb", "=AXwu==w"]);
    assert_eq!(rows(|f| f.stale = true), ["sss=ssss", "=ssss==s"]);
    assert_eq!(rows(|f| f.live_job = Some(NodeIntent::Running)), ["jjj=jjjj", "=AXjj==j"]);
    assert_eq!(rows(|f| f.live_job = Some(NodeIntent::Stopped)), ["jjj=jjjj", "=jjjj==j"]);
}

#[test]
fn facts_stay_small() {
    assert_eq!(size_of::<EnforcementFacts>(), 16);
    assert_eq!(size_of::<EnforcementAction>(), 16);
}

fn now(millis: u64) -> Now {
    Now { wall: Timestamp::UNIX_EPOCH, boot: BootInstant { millis, ..NOW } }
}

#[test]
fn giving_up_names_last_and_first_error() {
    let (policy, mut rng, mut budget) = (EnforcementPolicy::default(), SplitMix(1), Budget::default());
    assert_eq!(budget.failed("no image", &policy, now(0), &mut rng), Spent::Retry);
    budget.success();
    assert_eq!(budget.last_error, None);
    assert_eq!(budget.failed("exited with code 1", &policy, now(0), &mut rng), Spent::Retry);
    assert_eq!(budget.failed("no memory", &policy, now(0), &mut rng), Spent::GiveUp);
    let text = "State enforcement failed after 3 attempts. Last error: no memory. First error: no image";
    assert_eq!(budget.give_up_message(), text);
    assert_eq!(budget.failed("late", &policy, now(0), &mut rng), Spent::GiveUp);
    assert_eq!((budget.attempts, budget.last_error.as_deref()), (3, Some("late")));

    budget.reset_by_user();
    assert_eq!((budget.attempts, budget.given_up_at, budget.next_attempt), (0, None, None));
    assert_eq!(budget.last_error.as_deref(), Some("late"));
    budget.failed("another matter", &policy, now(0), &mut rng);
    assert_eq!(budget.first_error.as_deref(), Some("another matter"));
    budget.ran_stably();
    assert_eq!(budget, Budget::default());
}

#[test]
fn waits_double_up_to_the_cap() {
    let policy = EnforcementPolicy::default();
    let longest: Vec<u64> = (1..=8).map(|n| policy.longest_wait(n).as_secs()).collect();
    assert_eq!(longest, [5, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(policy.longest_wait(u32::MAX), policy.cap);
    let mut rng = SplitMix(7);
    let waits: Vec<Duration> = (0..1000).map(|_| policy.wait(1, &mut rng)).collect();
    assert!(waits.iter().all(|wait| *wait <= policy.base));
    assert!(waits.iter().any(|w| w.as_millis() < 500) && waits.iter().any(|w| w.as_millis() > 4_500));
}

#[test]
fn the_policy_is_written_in_seconds() {
    let policy: EnforcementPolicy = serde_json::from_str(r#"{"base": 0.5, "max_attempts": 7}"#).unwrap();
    assert_eq!((policy.base.as_millis(), policy.max_attempts, policy.cap.as_secs()), (500, 7, 300));
    let text = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<EnforcementPolicy>(&text).unwrap(), policy);
    for bad in [r#"{"base": -1}"#, r#"{"bass": 1}"#, r#"{"cap": 1e300}"#] {
        assert!(serde_json::from_str::<EnforcementPolicy>(bad).is_err(), "{bad}");
    }
}

#[derive(Debug, Clone)]
enum Happening {
    BootClock(u64),
    WallClock(i64),
    Reboot,
    Restart,
    User,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0u64..400_000).prop_map(Happening::BootClock),
        2 => (-4_000_000_000i64..4_000_000_000).prop_map(Happening::WallClock),
        1 => Just(Happening::Reboot),
        1 => Just(Happening::Restart),
        1 => Just(Happening::User),
    ]
}

proptest! {
    /// A node that fails whenever it is tried: attempts stay within the budget, and none is made before the boot clock
    /// has counted its whole wait, whatever the wall clock does and however often the controller restarts.
    #[test]
    fn attempts_are_few_and_never_early(
        happenings in prop::collection::vec(happening(), 1..60),
        seed: u64,
        max_attempts in 1u32..6,
    ) {
        let policy = EnforcementPolicy { max_attempts, ..EnforcementPolicy::default() };
        let mut rng = SplitMix(seed);
        let mut budget = Budget::default();
        let (mut boot, mut wall) = (NOW, Timestamp::UNIX_EPOCH);
        let (mut attempts, mut waited, mut wait) = (0, Duration::ZERO, Duration::ZERO);
        for happening in happenings {
            match happening {
                Happening::BootClock(millis) => {
                    boot.millis += millis;
                    waited += Duration::from_millis(millis);
                }
                Happening::WallClock(second) => wall = Timestamp::from_second(second).unwrap(),
                Happening::Reboot => {
                    boot = BootInstant { boot: BootId(boot.boot.0 + 1), millis: 5 };
                    waited = Duration::ZERO;
                    budget.rebase(boot);
                }
                Happening::Restart => {
                    let text = serde_json::to_string(&budget).unwrap();
                    budget = serde_json::from_str(&text).unwrap();
                    budget.rebase(boot);
                }
                Happening::User => {
                    budget.reset_by_user();
                    (attempts, wait) = (0, Duration::ZERO);
                }
            }
            let facts = EnforcementFacts {
                given_up: budget.given_up_at.is_some(),
                due_millis: due_millis(budget.next_attempt, boot),
                ..facts(NodeState::Error, NodeIntent::Running)
            };
            match decide(&facts, boot) {
                EnforcementAction::Start => {
                    prop_assert!(attempts < max_attempts, "attempt {} of {max_attempts}", attempts + 1);
                    prop_assert!(waited >= wait, "waited {waited:?} of {wait:?}");
                    attempts += 1;
                    let spent = budget.failed("no", &policy, Now { wall, boot }, &mut rng);
                    prop_assert_eq!(spent == Spent::GiveUp, attempts == max_attempts);
                    waited = Duration::ZERO;
                    wait = budget.next_attempt.map_or(Duration::ZERO, |w| Duration::from_millis(w.wait_millis));
                    prop_assert!(wait <= policy.longest_wait(attempts));
                }
                EnforcementAction::WaitUntil { reason, millis } => {
                    prop_assert_eq!(reason, SkipReason::Backoff);
                    prop_assert!(waited < wait && millis > boot.millis);
                }
                action => {
                    prop_assert_eq!(action, EnforcementAction::None { reason: SkipReason::GivenUp });
                    prop_assert_eq!(attempts, max_attempts);
                }
            }
        }
    }
}
