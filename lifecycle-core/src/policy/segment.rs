//! Numbers of the segments on a host: VLAN tags and VXLAN network identifiers.
//!
//! The backend's own state is the source: what it shows in use is not handed out, and a number that was freed counts
//! as in use until the backend was looked at again and shows it nowhere.

use std::collections::BTreeSet;

/// The numbers of one kind on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPool {
    kind: SegmentKind,
    /// Handed out by us.
    allocated: BTreeSet<u32>,
    /// Carried by something, as far as is known.
    carried: BTreeSet<u32>,
    /// Where the search begins: a number rests as long as possible before it is used again.
    next: u32,
}

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display)]
pub enum SegmentKind {
    /// VLAN tags, 1 to 4094.
    #[strum(serialize = "VLAN tag")]
    Tag,
    /// VXLAN network identifiers, 1 to 16 777 215.
    #[strum(serialize = "VNI")]
    Vni,
}

impl SegmentKind {
    /// The highest number; the lowest is 1.
    pub const fn last(self) -> u32 {
        match self {
            Self::Tag => 4094,
            Self::Vni => (1 << 24) - 1,
        }
    }
}

/// No number can be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// All are in use.
    #[error("no free {kind} on the host: all {} are in use{}", kind.last(), advice(*kind))]
    Exhausted {
        /// Which kind.
        kind: SegmentKind,
    },
    /// A certain one was asked for and something else has it.
    #[error("{kind} {number} is in use already, or not between 1 and {}", kind.last())]
    Taken {
        /// Which kind.
        kind: SegmentKind,
        /// Which number.
        number: u32,
    },
}

const fn advice(kind: SegmentKind) -> &'static str {
    match kind {
        SegmentKind::Tag => "; set `ovs_mode: dedicated`, which gives each lab a bridge with tags of its own",
        SegmentKind::Vni => "",
    }
}

impl SegmentPool {
    /// A pool from which nothing was taken yet.
    pub const fn new(kind: SegmentKind) -> Self {
        Self { kind, allocated: BTreeSet::new(), carried: BTreeSet::new(), next: 1 }
    }

    /// Takes in which numbers the backend's state shows in use now.
    pub fn observe(&mut self, carried: impl IntoIterator<Item = u32>) {
        self.carried = carried.into_iter().collect();
    }

    /// Whether a number could be handed out.
    pub fn is_free(&self, number: u32) -> bool {
        (1..=self.kind.last()).contains(&number) && !self.allocated.contains(&number) && !self.carried.contains(&number)
    }

    /// Whether a number is handed out.
    pub fn is_allocated(&self, number: u32) -> bool {
        self.allocated.contains(&number)
    }

    /// Hands out a free number.
    ///
    /// # Errors
    /// [`SegmentError::Exhausted`] when all are in use.
    pub fn allocate(&mut self) -> Result<u32, SegmentError> {
        let number = self.find(|_| true)?;
        self.hand_out(number);
        Ok(number)
    }

    /// Takes over a number that the record of a segment names, whether anything carries it yet or not.
    ///
    /// # Errors
    /// [`SegmentError::Taken`] when another segment has it, or when there is no such number.
    pub fn adopt(&mut self, number: u32) -> Result<(), SegmentError> {
        let valid = (1..=self.kind.last()).contains(&number);
        if valid && self.allocated.insert(number) {
            Ok(())
        } else {
            Err(SegmentError::Taken { kind: self.kind, number })
        }
    }

    /// Gives a number back. It is not handed out again before [`SegmentPool::observe`] was called without it.
    pub fn free(&mut self, number: u32) {
        if self.allocated.remove(&number) {
            self.carried.insert(number);
        }
    }

    fn find(&self, also: impl Fn(u32) -> bool) -> Result<u32, SegmentError> {
        let from_next = (self.next..=self.kind.last()).chain(1..self.next);
        let mut free = from_next.filter(|&number| self.is_free(number) && also(number));
        free.next().ok_or(SegmentError::Exhausted { kind: self.kind })
    }

    fn hand_out(&mut self, number: u32) {
        self.allocated.insert(number);
        self.next = number % self.kind.last() + 1;
    }
}

/// Hands out one number that is free in both pools: a link between two hosts has one on both.
///
/// # Errors
/// [`SegmentError::Exhausted`] when no number is free in both.
pub fn allocate_shared(a: &mut SegmentPool, b: &mut SegmentPool) -> Result<u32, SegmentError> {
    let number = a.find(|number| b.is_free(number))?;
    a.hand_out(number);
    b.hand_out(number);
    Ok(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exhaustion_names_the_way_out() {
        let mut pool = SegmentPool::new(SegmentKind::Tag);
        pool.observe([7]);
        let numbers: BTreeSet<u32> = (0..4093).map(|_| pool.allocate().unwrap()).collect();
        assert_eq!(
            (numbers.len(), numbers.contains(&7), numbers.first(), numbers.last()),
            (4093, false, Some(&1), Some(&4094))
        );
        let error = pool.allocate().unwrap_err().to_string();
        assert!(error.contains("no free VLAN tag") && error.contains("ovs_mode: dedicated"), "{error}");
        pool.free(9);
        assert!(pool.allocate().is_err(), "the tag may still be carried");
        pool.observe([7]);
        assert_eq!(pool.allocate(), Ok(9));
    }

    #[test]
    fn adopting_finds_conflicts() {
        let mut pool = SegmentPool::new(SegmentKind::Vni);
        pool.observe([5]);
        assert_eq!(pool.adopt(5), Ok(()));
        for number in [5, 0, 1 << 24] {
            assert_eq!(pool.adopt(number), Err(SegmentError::Taken { kind: SegmentKind::Vni, number }));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The pools of two hosts with a backend that carries what is allocated and drops it late.
        #[test]
        fn no_two_segments_share_a_number(ops in prop::collection::vec((0u8..4, 0usize..8), 1..120)) {
            let mut pools = [SegmentPool::new(SegmentKind::Tag), SegmentPool::new(SegmentKind::Tag)];
            // Few numbers are left, so that reuse happens.
            let foreign: BTreeSet<u32> = (7..=4094).collect();
            let mut carried: [BTreeMap<u32, bool>; 2] = Default::default();
            for pool in &mut pools {
                pool.observe(foreign.iter().copied());
            }
            for (op, index) in ops {
                let host = index % 2;
                match op {
                    0 => if let Ok(number) = pools[host].allocate() {
                        prop_assert!(!foreign.contains(&number));
                        prop_assert_eq!(carried[host].insert(number, true), None, "{} is still carried", number);
                    },
                    1 => {
                        let [a, b] = &mut pools;
                        if let Ok(number) = allocate_shared(a, b) {
                            prop_assert_eq!(carried[0].insert(number, true), None);
                            prop_assert_eq!(carried[1].insert(number, true), None);
                        }
                    }
                    2 => if let Some(number) = carried[host].iter().filter(|x| *x.1).map(|x| *x.0).nth(index / 2) {
                        pools[host].free(number);
                        carried[host].insert(number, false);
                    },
                    _ => {
                        // The backend drops one of those that are no longer held, and then is looked at.
                        let gone = carried[host].iter().find(|x| !*x.1).map(|x| *x.0);
                        gone.map(|number| carried[host].remove(&number));
                        pools[host].observe(foreign.iter().chain(carried[host].keys()).copied());
                    }
                }
            }
        }
    }
}
