//! What a planned fault does to a call, and what it leaves behind.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use lifecycle_core::ErrorKind;
use lifecycle_core::id::ControllerId;
use lifecycle_core::memory::MemoryStore;
use lifecycle_core::model::Batch;
use lifecycle_core::plugin::StateStore;
use lifecycle_testkit::faulty::{Fault, Faulty, Plan};

fn faulty(plan: Plan) -> (MemoryStore, Faulty<dyn StateStore>, Arc<Plan>) {
    let store = MemoryStore::new(ControllerId::from_u64(1));
    let plan = Arc::new(plan);
    (store.clone(), Faulty::new(Arc::new(store), Arc::clone(&plan)), plan)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

const fn batch(number: u64) -> Batch {
    Batch { epoch: 1, number, changes: Vec::new(), audit: Vec::new(), events: Vec::new() }
}

#[test]
fn a_failed_call_does_nothing_and_a_lost_answer_does_all() {
    let plan = Plan::at([(2, Fault::Fail(ErrorKind::Unreachable)), (3, Fault::LoseAnswer(ErrorKind::Timeout))]);
    let (store, faulty, plan) = faulty(plan);
    run(async {
        faulty.take_over("test").await.unwrap();
        assert_eq!(faulty.commit(&batch(1)).await.unwrap_err().kind(), ErrorKind::Unreachable);
        assert_eq!(store.load_now().head.batch, 0);
        assert_eq!(faulty.commit(&batch(1)).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(store.load_now().head.batch, 1);
        faulty.commit(&batch(1)).await.unwrap();
    });
    assert_eq!(plan.calls(), ["take_over", "commit", "commit", "commit"]);
}

#[test]
fn a_call_is_made_twice_or_late() {
    let (store, faulty, _) = faulty(Plan::at([(1, Fault::Twice), (2, Fault::Delay(Duration::from_millis(30)))]));
    run(async {
        assert_eq!(faulty.take_over("test").await.unwrap().epoch, 2);
        let begin = Instant::now();
        faulty.commit(&Batch { epoch: 2, ..batch(1) }).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(30));
    });
    assert_eq!(store.load_now().head.batch, 1);
}

#[test]
fn a_seed_repeats_its_faults_and_only_those_of_named_operations() {
    let outcomes = |seed| {
        let plan = Plan::seeded(seed, 3, [Fault::Fail(ErrorKind::Exhausted), Fault::Twice]).only(["commit"]);
        let (_, faulty, plan) = faulty(plan);
        let outcomes: Vec<bool> = run(async {
            faulty.take_over("test").await.unwrap();
            let mut outcomes = Vec::new();
            for number in 1..=200 {
                outcomes.push(faulty.commit(&batch(number)).await.is_ok());
            }
            outcomes
        });
        assert_eq!(plan.calls().len(), 200);
        outcomes
    };
    assert_eq!(outcomes(1), outcomes(1));
    assert_ne!(outcomes(1), outcomes(2));
    assert!(outcomes(1).contains(&true) && outcomes(1).contains(&false));
}
