//! Tags that nobody on a bridge has, and transactions that hand them out.

use std::collections::HashMap;

use lifecycle_core::error::ErrorKind;
use lifecycle_core::policy::segment::{SegmentError, SegmentKind, SegmentPool};
use lifecycle_linux::wiring::{Failure, Outcome};

use crate::ovsdb::Replica;
use crate::switch::Draft;
use crate::worker::Worker;

/// Numbers of segments, by the name of their bridge.
#[derive(Debug, Default)]
pub(crate) struct Pools(HashMap<String, SegmentPool>);

impl Pools {
    /// So many tags for a draft, all different, on a bridge whose ports carry those in `carried`.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] when there are not so many.
    pub(crate) fn fresh(
        &mut self,
        bridge: &str,
        carried: impl IntoIterator<Item = u32>,
        count: usize,
    ) -> Outcome<Vec<u32>> {
        let pool = self.0.entry(bridge.to_owned()).or_insert_with(|| SegmentPool::new(SegmentKind::Tag));
        pool.observe(carried);
        let drawn: Vec<_> = (0..count).map(|_| pool.allocate()).collect();
        // When the next draft is made, what this one handed out is either carried or free again.
        drawn.iter().flatten().for_each(|tag| pool.free(*tag));
        let fresh: Result<_, SegmentError> = drawn.into_iter().collect();
        fresh.map_err(|error| Failure::new(ErrorKind::Exhausted, error.to_string()))
    }
}

impl Worker {
    /// As [`Worker::transact_again`], for a draft that takes tags, or cannot be made.
    pub(crate) fn transact_with_tags(
        &mut self,
        comment: &str,
        mut draft: impl FnMut(&Replica, &mut Pools) -> Outcome<Draft>,
    ) -> Outcome<Option<i64>> {
        let mut pools = std::mem::take(&mut self.pools);
        let mut refused = None;
        let number = self.transact_again(comment, |db| {
            draft(db, &mut pools).unwrap_or_else(|failure| {
                refused = Some(failure);
                Draft::default()
            })
        });
        self.pools = pools;
        refused.map_or(number, Err)
    }
}
