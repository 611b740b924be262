//! What the backend's thread works with.

use std::rc::Rc;
use std::sync::Arc;

use lifecycle_core::attach::AttachKind;
use lifecycle_core::id::ControllerId;
use lifecycle_core::time::BootId;
use lifecycle_linux::identity::boot_id;
use lifecycle_linux::limits::raise_open_files;
use lifecycle_linux::wiring::{News, Outcome, Place, Places};

use crate::facts::Facts;

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) controller: ControllerId,
    pub(crate) boot: BootId,
    pub(crate) facts: Facts,
    pub(crate) places: Places,
    pub(crate) news: Arc<News>,
}

impl Worker {
    pub(crate) fn new(controller: ControllerId, news: Arc<News>) -> Outcome<Self> {
        if let Err(error) = raise_open_files() {
            tracing::warn!(%error, "the number of open files stays limited");
        }
        let places = Places::new(Arc::clone(&news), None);
        let mut worker = Self { controller, boot: boot_id()?, facts: Facts::default(), places, news };
        worker.know(Facts::of_user());
        Ok(worker)
    }

    /// Goes by what was found out of the machine from now on.
    pub(crate) fn know(&mut self, facts: Facts) {
        self.places.rootless = facts.rootless;
        self.facts = facts;
    }

    /// Opens the namespace in which the interface at `point` stands, next to `other`, the link's other end.
    pub(crate) fn place(&mut self, point: &AttachKind, other: Option<&AttachKind>) -> Outcome<Rc<Place>> {
        self.places.of(point, other)
    }
}

impl AsMut<Places> for Worker {
    fn as_mut(&mut self) -> &mut Places {
        &mut self.places
    }
}
