//! The laws of providers.

use lifecycle_testkit::laws::Suite;

pub(crate) fn suite() -> Suite {
    Suite::new()
}
