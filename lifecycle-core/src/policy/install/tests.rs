use proptest::prelude::*;
use strum::VariantArray;

use super::*;
use crate::machine::Lifecycle;
use crate::time::{BootId, BootInstant};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn at(seconds: u64) -> Now {
    let wall = Timestamp::from_second(1_700_000_000 + seconds as i64).unwrap();
    Now { wall, boot: BootInstant { boot: BootId(1), millis: seconds * 1000 } }
}

fn machine(state: InstallState) -> InstallRecord {
    InstallRecord { state, ..InstallRecord::new(MachineId::from_u64(1), MAC, at(0)) }
}

fn send(record: &mut InstallRecord, attempt: Option<&str>, event: Event) -> Outcome {
    let message =
        Report { mac: MAC, token: None, attempt: attempt.map(str::to_owned), facts: MachineFacts::default(), event };
    report(Some(record), &message, &InstallPolicy::default(), at(1)).unwrap()
}

fn failed(error: &str) -> Event {
    Event::Failed { error: error.to_owned() }
}

const REPEATED: Outcome = Outcome::Unchanged(Unchanged::Repeated);
const OUT_OF_ORDER: Outcome = Outcome::Unchanged(Unchanged::OutOfOrder);

#[test]
fn a_good_install() {
    let mut record = machine(InstallState::Pending);
    let started = send(&mut record, Some("a"), Event::Started);
    assert_eq!(started, Outcome::Changed(InstallChange { from: InstallState::Pending, to: InstallState::Installing }));
    assert_eq!(send(&mut record, Some("a"), Event::Started), REPEATED);
    assert_eq!(send(&mut record, Some("a"), Event::Progress(40)), Outcome::Recorded);
    assert_eq!(send(&mut record, None, Event::Progress(40)), REPEATED);
    assert_eq!(send(&mut record, Some("a"), Event::Progress(30)), OUT_OF_ORDER);
    assert_eq!(send(&mut record, Some("b"), Event::Complete), OUT_OF_ORDER);
    assert!(matches!(send(&mut record, Some("a"), Event::Complete), Outcome::Changed(_)));
    assert_eq!((record.state, record.progress, record.attempts), (InstallState::Installed, Some(100), 0));
    assert_eq!(send(&mut record, Some("a"), Event::Complete), REPEATED);
    assert_eq!(send(&mut record, Some("a"), failed("late")), OUT_OF_ORDER);
}

#[test]
fn failures_count_once_per_attempt_up_to_the_limit() {
    let mut record = machine(InstallState::Pending);
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        send(&mut record, Some(name), Event::Started);
        let outcome = send(&mut record, Some(name), failed(name));
        assert_eq!(matches!(outcome, Outcome::Changed(_)), name == "c");
        assert_eq!(record.attempts, index as u32 + 1);
        assert!(matches!(send(&mut record, Some(name), failed("again")), Outcome::Unchanged(_)));
        assert_eq!(send(&mut record, Some(name), Event::Complete), OUT_OF_ORDER);
    }
    assert_eq!((record.state, record.last_error.as_deref()), (InstallState::InstallFailed, Some("c")));

    let policy = InstallPolicy::default();
    let error = command(&mut record, InstallState::Pending, false, &policy, at(2)).unwrap_err();
    assert_eq!(error.to_string(), "Max install attempts (3) exceeded. Use force=true to reset and retry.");
    assert!(command(&mut record, InstallState::Active, true, &policy, at(2)).is_err(), "force keeps to the table");
    command(&mut record, InstallState::Pending, true, &policy, at(2)).unwrap();
    assert_eq!((record.attempts, record.last_error.as_deref()), (0, None));
    assert_eq!(send(&mut record, Some("a"), Event::Started), OUT_OF_ORDER, "an attempt of the round before");
}

#[test]
fn attempts_without_a_name_are_told_apart_by_their_starts() {
    let mut record = machine(InstallState::Pending);
    send(&mut record, None, Event::Started);
    assert_eq!(send(&mut record, None, Event::Started), REPEATED);
    assert_eq!(send(&mut record, None, failed("x")), Outcome::Recorded);
    assert_eq!(send(&mut record, None, failed("x")), REPEATED);
    assert_eq!(send(&mut record, None, Event::Started), Outcome::Recorded);
    assert_eq!(send(&mut record, None, failed("y")), Outcome::Recorded);
    assert_eq!(record.attempts, 2);
}

#[test]
fn an_attempt_times_out_once_and_may_complete_late() {
    let (policy, mut record) = (InstallPolicy::default(), machine(InstallState::Pending));
    send(&mut record, Some("a"), Event::Started);
    assert_eq!(judge_timeout(&mut record, &policy, at(3600)), None);
    assert_eq!(judge_timeout(&mut record, &policy, at(3601)), Some(Outcome::Recorded));
    assert_eq!(judge_timeout(&mut record, &policy, at(9000)), None);
    assert_eq!(send(&mut record, Some("a"), failed("at last")), REPEATED);
    assert_eq!(record.attempts, 1);
    send(&mut record, Some("b"), Event::Started);
    let rebooted = Now { boot: BootInstant { boot: BootId(2), millis: 5 }, ..at(99_000) };
    assert_eq!(judge_timeout(&mut record, &policy, rebooted), None, "a reboot starts the wait again");
    record.attempt.as_mut().unwrap().end = Some(AttemptEnd::TimedOut);
    assert!(matches!(send(&mut record, Some("b"), Event::Complete), Outcome::Changed(_)));
}

#[test]
fn reports_are_found_by_address_and_proved_by_token() {
    let policy = InstallPolicy::default();
    let facts = MachineFacts { hostname: Some("m1".into()), ..MachineFacts::default() };
    let mut message = Report { mac: MAC, token: None, attempt: None, facts, event: Event::Seen };
    assert_eq!(report(None, &message, &policy, at(1)), Err(ReportError::UnknownMachine(MAC)));
    let mut record = machine(InstallState::Active);
    record.facts.serial = Some("s".into());
    record.boot_token = Some(TokenDigest([7; 32]));
    let before = record.clone();
    for token in [None, Some(TokenDigest([8; 32]))] {
        message.token = token;
        assert_eq!(report(Some(&mut record), &message, &policy, at(1)), Err(ReportError::WrongToken(MAC)));
        assert_eq!(record, before);
    }
    message.token = Some(TokenDigest([7; 32]));
    assert_eq!(report(Some(&mut record), &message, &policy, at(1)), Ok(Outcome::Recorded));
    assert_eq!((record.facts.hostname.as_deref(), record.facts.serial.as_deref()), (Some("m1"), Some("s")));
    assert_eq!(record.last_seen, Some(at(1).wall));
    message.event = Event::Progress(101);
    assert_eq!(report(Some(&mut record), &message, &policy, at(1)), Err(ReportError::InvalidProgress(101)));
    assert!(!format!("{record:?}").contains("7, 7"), "no digest in logs");
}

#[test]
fn deleting_is_retiring() {
    for &state in InstallState::VARIANTS {
        let mut record = machine(state);
        let expected = match state {
            InstallState::Active => Ok(Some(InstallState::Deprovisioning)),
            InstallState::Deprovisioning => Ok(Some(InstallState::Retired)),
            InstallState::Retired => Ok(None),
            _ => Err(()),
        };
        assert_eq!(retire(&mut record, at(1)).map(|c| c.map(|c| c.to)).map_err(|_| ()), expected, "{state}");
    }
}

#[test]
fn pages_have_limits() {
    assert_eq!(Page::new(None, None), Ok(Page { limit: 50, offset: 0 }));
    assert_eq!(Page::new(Some(200), Some(7)), Ok(Page { limit: 200, offset: 7 }));
    assert!(Page::new(Some(0), None).is_err() && Page::new(Some(201), None).is_err());
}

#[derive(Debug, Clone)]
enum Op {
    Report(Option<&'static str>, Event),
    Replay(usize),
    Command(InstallState, bool),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let event = prop_oneof![
        3 => Just(Event::Started),
        1 => (0u8..=100).prop_map(Event::Progress),
        1 => Just(Event::Complete),
        3 => Just(failed("no")),
        1 => Just(Event::Seen),
    ];
    let name = prop::option::weighted(0.8, prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g"]));
    prop_oneof![
        6 => (name, event).prop_map(|(name, event)| Op::Report(name, event)),
        3 => (0usize..50).prop_map(Op::Replay),
        2 => (prop::sample::select(InstallState::VARIANTS.to_vec()), any::<bool>()).prop_map(|(to, f)| Op::Command(to, f)),
        1 => (0u64..4000).prop_map(Op::Pass),
    ]
}

fn without_last_seen(record: &InstallRecord) -> InstallRecord {
    InstallRecord { last_seen: None, ..record.clone() }
}

proptest! {
    #[test]
    fn whatever_is_reported(ops in prop::collection::vec(op(), 1..80)) {
        let policy = InstallPolicy::default();
        let mut record = machine(InstallState::Pending);
        let mut effective: Vec<(Option<&str>, Event)> = Vec::new();
        let mut seconds = 0;
        for op in ops {
            let before = record.clone();
            let mut by_report = true;
            match op {
                Op::Report(name, event) => {
                    let outcome = send(&mut record, name, event.clone());
                    let same = without_last_seen(&before) == without_last_seen(&record);
                    prop_assert_eq!(matches!(outcome, Outcome::Changed(_)), before.state != record.state);
                    if matches!(outcome, Outcome::Unchanged(_)) {
                        prop_assert!(same, "an unchanged record changed");
                    } else if name.is_some() && event != Event::Seen {
                        effective.push((name, event));
                    }
                }
                Op::Replay(index) => if let Some((name, event)) = effective.get(index).cloned() {
                    prop_assert!(matches!(send(&mut record, name, event), Outcome::Unchanged(_)));
                    prop_assert_eq!(without_last_seen(&before), without_last_seen(&record));
                },
                Op::Command(to, force) => {
                    by_report = false;
                    let result = command(&mut record, to, force, &policy, at(seconds));
                    prop_assert_eq!(result.is_ok(), before.state != record.state);
                }
                Op::Pass(more) => {
                    seconds += more;
                    judge_timeout(&mut record, &policy, at(seconds));
                    prop_assert_eq!(judge_timeout(&mut record, &policy, at(seconds)), None, "once per attempt");
                }
            }
            prop_assert!(before.state == record.state || before.state.may_become(record.state));
            prop_assert!(record.attempts <= policy.max_attempts && record.attempts <= before.attempts + 1);
            prop_assert!(record.state != InstallState::Installing || record.attempts < policy.max_attempts);
            if by_report && record.state == InstallState::InstallFailed {
                let just_now = before.state != record.state;
                prop_assert!(!just_now || record.attempts == policy.max_attempts);
            }
            if record.state == InstallState::Installed {
                prop_assert_eq!((record.attempts, &record.last_error), (0, &None));
            }
        }
        let json = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<InstallRecord>(&json).unwrap(), record);
    }
}
