use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn host(state: FleetState) -> FleetRecord {
    let name = HostName::new("w1").unwrap();
    FleetRecord { state, ..FleetRecord::provisioning(FleetHostId::from_u64(1), name, at(0)) }
}

fn steps(record: &mut FleetRecord, event: FleetEvent) -> String {
    let changes = apply(record, event, at(1));
    changes.iter().map(|c| format!("{} ({})", c.to, c.trigger)).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_life() {
    let mut record = host(FleetState::Provisioning);
    assert_eq!(steps(&mut record, FleetEvent::MachineCreated), "initializing (machine_created)");
    assert_eq!(steps(&mut record, FleetEvent::CloudInitCompleted), "ready (cloud_init_completed)");
    assert_eq!(steps(&mut record, FleetEvent::ContainerAdded), "active (first_container_added)");
    assert_eq!(steps(&mut record, FleetEvent::ContainerAdded), "");
    assert_eq!(steps(&mut record, FleetEvent::ContainerRemoved), "");
    assert_eq!(steps(&mut record, FleetEvent::ContainerRemoved), "idle (last_container_removed)");
    assert_eq!(steps(&mut record, FleetEvent::ContainerAdded), "active (container_added)");
    assert_eq!(steps(&mut record, FleetEvent::Failed), "unhealthy (failed)");
    assert_eq!(steps(&mut record, FleetEvent::Restored), "ready (restored), active (restored)");
    assert_eq!((record.workloads, record.total_workloads), (1, 3));
    assert_eq!(steps(&mut record, FleetEvent::Gone), "unhealthy (gone), decommissioned (gone)");
    assert_eq!(steps(&mut record, FleetEvent::Gone), "");
}

#[test]
fn how_hosts_begin() {
    let (id, name) = (FleetHostId::from_u64(1), HostName::new("w1").unwrap());
    let system = FleetRecord::system(id, name.clone(), at(0));
    assert_eq!((system.state, system.managed), (FleetState::Active, false));
    let recovered = FleetRecord::recovered(id, name, at(0));
    assert_eq!((recovered.state, recovered.health), (FleetState::Ready, FleetHealth::Unknown));
}

#[test]
fn refusals_come_in_their_order() {
    let policy = DecommissionPolicy::default();
    let says = |record: &FleetRecord, minutes: i64| {
        may_decommission(record, &policy, at(minutes * MINUTE))
            .map_or_else(|refusal| refusal.to_string(), |()| "yes".into())
    };
    // Everything is wrong with it; what is put right step by step uncovers the next refusal.
    let mut record = host(FleetState::Initializing);
    record.managed = false;
    record.workloads = 3;
    record.allocated_memory = 5 << 20;
    record.recovery = Some(Recovery::Found);
    assert_eq!(says(&record, 60), "cannot decommission dedicated node");
    record.managed = true;
    assert_eq!(says(&record, 60), "node is still starting (initializing)");
    record.state = FleetState::Ready;
    record.initialized_at = Some(at(31 * MINUTE));
    assert_eq!(says(&record, 60), "3 workloads on it");
    record.workloads = 0;
    assert_eq!(says(&record, 60), "5 MB still allocated");
    record.allocated_memory = 0;
    assert_eq!(says(&record, 60), "recovered node not yet resynced");
    record.recovery = Some(Recovery::Resynced(at(51 * MINUTE)));
    assert_eq!(says(&record, 60), "recovered node resynced only 540 s ago");
    record.recovery = Some(Recovery::Resynced(at(50 * MINUTE)));
    assert_eq!(says(&record, 60), "Ready node too young (1740 s)");
    assert_eq!(says(&record, 61), "yes");
    record.state = FleetState::Idle;
    record.state_since = at(40 * MINUTE);
    assert_eq!(says(&record, 61), "idle for only 1260 s");
    assert_eq!(says(&record, 70), "yes");
    assert_eq!(says(&record, -100), "recovered node resynced only 0 s ago", "a clock that went back");
}

#[derive(Debug, Clone)]
enum Op {
    Event(FleetEvent),
    Memory(u64),
    Drain,
    Pass(i64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop::sample::select(FleetEvent::VARIANTS.to_vec()).prop_map(Op::Event),
        1 => (0u64..2).prop_map(Op::Memory),
        3 => Just(Op::Drain),
        3 => (0i64..40 * MINUTE).prop_map(Op::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happens(ops in prop::collection::vec(op(), 1..80), birth in 0u8..3) {
        let (id, name) = (FleetHostId::from_u64(1), HostName::new("w1").unwrap());
        let mut record = match birth {
            0 => FleetRecord::provisioning(id, name, at(0)),
            1 => FleetRecord::system(id, name, at(0)),
            _ => FleetRecord::recovered(id, name, at(0)),
        };
        let mut clock = 0;
        for op in ops {
            let before = record.clone();
            match op {
                Op::Memory(bytes) => record.allocated_memory = bytes,
                Op::Pass(seconds) => clock += seconds,
                Op::Event(event) => {
                    let mut state = before.state;
                    for change in apply(&mut record, event, at(clock)) {
                        prop_assert_eq!(change.from, state);
                        state = change.from.go(change.to).unwrap();
                    }
                    prop_assert_eq!(state, record.state);
                    prop_assert!(record.state != FleetState::Draining || before.state == FleetState::Draining);
                    let removed = before.state == FleetState::Draining || event == FleetEvent::Gone;
                    let ended = record.state == FleetState::Decommissioned && before.state != record.state;
                    prop_assert!(!ended || removed, "only a drained or a vanished host ends");
                    prop_assert!(u64::from(record.workloads) <= record.total_workloads);
                }
                Op::Drain => match drain(&mut record, &DecommissionPolicy::default(), at(clock)) {
                    Err(_) => prop_assert_eq!(&record, &before),
                    Ok(change) => {
                        prop_assert_eq!((change.from, change.to), (before.state, FleetState::Draining));
                        prop_assert!(record.managed && record.workloads == 0 && record.allocated_memory == 0);
                        let rested = |since: Timestamp, minutes: i64| at(clock).duration_since(since).as_secs() >= minutes * 60;
                        prop_assert!(before.state != FleetState::Idle || rested(before.state_since, 30));
                        prop_assert!(before.state != FleetState::Ready || rested(before.initialized_at.unwrap(), 30));
                        let taken_stock_of = match before.recovery {
                            None => true,
                            Some(Recovery::Found) => false,
                            Some(Recovery::Resynced(then)) => rested(then, 10),
                        };
                        prop_assert!(taken_stock_of);
                    }
                },
            }
        }
        let json = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<FleetRecord>(&json).unwrap(), record);
    }
}
