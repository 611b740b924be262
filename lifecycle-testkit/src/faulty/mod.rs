//! Plugins that misbehave on purpose.
//!
//! [`Faulty`] wraps a plugin and does to its calls what a [`Plan`] says: fail them, lose their answers after they took
//! effect, delay them, make them twice. Observation, capabilities and news pass through unless the plan names them.

mod network;
mod plan;
mod provider;
mod store;

use std::fmt;
use std::sync::Arc;

use lifecycle_core::{Error, Result};

pub use plan::{Fault, Plan};

/// A plugin whose calls go wrong as planned.
///
/// `Faulty<dyn Provider>` is a provider, `Faulty<dyn NetworkBackend>` a backend, `Faulty<dyn StateStore>` a store.
pub struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    plan: Arc<Plan>,
}

impl<T: ?Sized> Faulty<T> {
    /// Wraps `inner`. The plan can be shared, so that several plugins count their calls together.
    pub fn new(inner: Arc<T>, plan: Arc<Plan>) -> Self {
        Self { inner, plan }
    }

    /// Makes a call as the plan wants it made.
    async fn call<'a, R, F>(&'a self, operation: &'static str, call: impl Fn(&'a T) -> F) -> Result<R>
    where
        F: Future<Output = Result<R>>,
    {
        match self.plan.next(operation) {
            None => call(&self.inner).await,
            Some(Fault::Fail(kind)) => Err(Error::new(kind, operation, "planned fault: nothing was done")),
            Some(Fault::LoseAnswer(kind)) => {
                drop(call(&self.inner).await);
                Err(Error::new(kind, operation, "planned fault: the answer was lost"))
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                call(&self.inner).await
            }
            Some(Fault::Twice) => {
                call(&self.inner).await?;
                call(&self.inner).await
            }
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Faulty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &&*self.inner).field("plan", &self.plan).finish()
    }
}
