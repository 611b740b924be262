//! Mistakes of network backends that were made, here or elsewhere, before somebody tried what the switch does.

/// A mistake that the simulated backend can be told to make.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::EnumMessage, strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Mistake {
    /// A link is right when both ports have the same tag: which interfaces stand behind them, and whether a frame
    /// arrives, is not looked at.
    VerifiesTagsOnly,
    /// A port whose interface was made again is taken off and put on again in one transaction, which saves a wait.
    AddsAgainInOneStep,
    /// What the database has committed is taken to be carried out by the switch.
    TrustsACommit,
    /// A transaction without an answer is made again as it was, without a look at what it came to.
    RetriesBlindly,
    /// The tag of a port counts as free once the interface is gone, though the port still has it.
    FreesATagTooEarly,
    /// Whether a tunnel to another host is needed is counted by connects and disconnects, and not derived from links.
    CountsTunnels,
}

#[cfg(feature = "planted-bugs")]
impl Mistake {
    /// The invariants of which it breaks at least one.
    pub(crate) const fn breaks(self) -> &'static [&'static str] {
        match self {
            Self::VerifiesTagsOnly => &["I9"],
            Self::AddsAgainInOneStep | Self::TrustsACommit => &["L1"],
            Self::RetriesBlindly => &["I4", "L1"],
            Self::FreesATagTooEarly => &["I12"],
            Self::CountsTunnels => &["I13"],
        }
    }
}
