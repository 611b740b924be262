//! The laws, tried on the reference store: what fails here is wrong about the laws.

use std::process::ExitCode;
use std::sync::Arc;

use lifecycle_core::id::ControllerId;
use lifecycle_core::memory::MemoryStore;
use lifecycle_core::plugin::StateStore;
use lifecycle_testkit::laws;

fn main() -> ExitCode {
    let suite = laws::store::suite("memory", || {
        let store = MemoryStore::new(ControllerId::from_u64(7));
        Ok(move || Ok(Arc::new(store.clone()) as Arc<dyn StateStore>))
    });
    suite.run()
}
