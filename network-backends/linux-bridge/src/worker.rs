//! What the backend's thread works with.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use lifecycle_core::attach::AttachKind;
use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::time::BootId;
use lifecycle_linux::identity::boot_id;
use lifecycle_linux::limits::raise_open_files;
use lifecycle_linux::wiring::{News, Outcome, Place, Places, TestFrames, UnderlayChoice};

use crate::facts::Facts;
use crate::settings::Settings;

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) controller: ControllerId,
    pub(crate) boot: BootId,
    pub(crate) facts: Facts,
    pub(crate) places: Places,
    pub(crate) news: Arc<News>,
    pub(crate) frames: TestFrames,
    /// Which address tunnels have.
    pub(crate) underlay: Option<UnderlayChoice>,
    /// Links as they were built or last verified.
    pub(crate) known: HashMap<LinkId, LinkIdentity>,
}

impl Worker {
    pub(crate) fn new(controller: ControllerId, settings: Settings, news: Arc<News>) -> Outcome<Self> {
        if let Err(error) = raise_open_files() {
            tracing::warn!(%error, "the number of open files stays limited");
        }
        let Settings { namespace, underlay } = settings;
        let places = Places::new(Arc::clone(&news), namespace);
        let (boot, frames, known) = (boot_id()?, TestFrames::default(), HashMap::new());
        let mut worker = Self { controller, boot, facts: Facts::default(), places, news, frames, underlay, known };
        worker.know(Facts::of_user());
        Ok(worker)
    }

    /// Goes by what was found out of the machine from now on.
    pub(crate) fn know(&mut self, facts: Facts) {
        self.places.rootless = facts.rootless;
        self.facts = facts;
    }

    /// Opens the namespace in which bridge and ports of a link between these points are.
    pub(crate) fn switch(&mut self, a: &AttachKind, b: &AttachKind) -> Outcome<Rc<Place>> {
        let node = [a, b].into_iter().find(|place| matches!(place, AttachKind::Namespace(_)));
        self.places.switch_of(node)
    }
}

impl AsMut<Places> for Worker {
    fn as_mut(&mut self) -> &mut Places {
        &mut self.places
    }
}
