//! Lends nodes this program's small network tools, for kinds whose file system may have none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifecycle_core::error::Result;
use lifecycle_core::name::{IfName, PortName};
use lifecycle_core::plugin::VendorConfig;
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::plugin::vendor::{KindData, VendorAction, VendorContext};
use lifecycle_core::topology::Bind;

use crate::tool::{DIRECTORY, NAMES};

/// The same vendor, whose nodes find the tools below [`DIRECTORY`] where their kind wants them.
pub(super) fn with_tools(vendor: Arc<dyn VendorConfig>, program: &Path) -> Arc<dyn VendorConfig> {
    Arc::new(WithTools { vendor, program: program.to_owned() })
}

#[derive(Debug)]
struct WithTools {
    vendor: Arc<dyn VendorConfig>,
    program: PathBuf,
}

impl VendorConfig for WithTools {
    fn kinds(&self) -> &[KindData] {
        self.vendor.kinds()
    }

    fn interface(&self, kind: &KindData, port: &PortName) -> Option<IfName> {
        self.vendor.interface(kind, port)
    }

    fn port(&self, kind: &KindData, interface: &IfName) -> Option<PortName> {
        self.vendor.port(kind, interface)
    }

    fn before_create(&self, kind: &KindData, request: &mut CreateNode) -> Result<()> {
        self.vendor.before_create(kind, request)?;
        if kind.lend_tools {
            let bind = |name: &&str| Bind {
                source: self.program.clone(),
                target: Path::new(DIRECTORY).join(name),
                read_only: true,
                options: Vec::new(),
            };
            request.spec.binds.extend(NAMES.iter().map(bind));
        }
        Ok(())
    }

    fn after_start(&self, kind: &KindData, node: &VendorContext<'_>) -> Vec<VendorAction> {
        self.vendor.after_start(kind, node)
    }
}
