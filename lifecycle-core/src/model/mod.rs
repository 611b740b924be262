//! The records that a controller keeps, the batches in which they change, and what people are shown of them.

mod audit;
mod batch;
mod event;
mod mapping;
mod records;
mod view;

pub use audit::{AuditAction, AuditQuery, AuditResult, AuditRow, Trigger};
pub use batch::{Batch, Change, Head, Snapshot};
pub use event::{Event, EventBody, SubjectKind};
pub use mapping::InterfaceMapping;
pub use records::{
    HostRecord, JobAction, JobRecord, LabRecord, LinkRecord, NodeInstance, NodeRecord, NodeTimes, Parked, ParkedEnd,
    ReadyState, Span,
};
pub use view::{EndView, JobView, LabView, LinkView, NodeView};
