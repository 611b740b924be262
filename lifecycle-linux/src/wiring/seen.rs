//! What a backend says that it sees of links, made of the parts that it found.

use std::collections::BTreeMap;

use lifecycle_core::id::LinkId;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::ObservedLink;

/// A part of a link: the link, its incarnation where the part tells, and the interface where it is one.
pub type Part = (LinkId, Option<u64>, Option<(u64, u32, IfName)>);

/// Parts by their links. Of several incarnations of a link only the oldest is named, with what does not tell its own: it is
/// the one that is in the way. What another backend built of a later one is not to go with it.
pub fn oldest(parts: Vec<Part>) -> Vec<ObservedLink> {
    let mut links: BTreeMap<LinkId, Vec<Part>> = BTreeMap::new();
    parts.into_iter().for_each(|part| links.entry(part.0).or_default().push(part));
    let observed = links.into_iter().map(|(link, parts)| {
        let told = parts.iter().filter_map(|(_, incarnation, _)| *incarnation).min();
        let unknown = parts.iter().any(|(_, incarnation, _)| incarnation.is_none());
        let of_it = parts.into_iter().filter(|(_, incarnation, _)| incarnation.is_none() || *incarnation == told);
        let mut interfaces: Vec<_> = of_it.filter_map(|(_, _, interface)| interface).collect();
        interfaces.sort();
        ObservedLink { link, incarnation: told.filter(|_| !unknown), interfaces }
    });
    observed.collect()
}

/// Whether a part of the same link, of this incarnation where it tells, is removed with what was observed.
pub fn goes_with(incarnation: Option<u64>, observed: &ObservedLink) -> bool {
    incarnation.zip(observed.incarnation).is_none_or(|(part, observed)| part == observed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_incarnation_is_left_out() {
        let link = LinkId::from_u64(1);
        let part = |incarnation, index| (link, incarnation, Some((1, index, IfName::new("eth1").unwrap())));
        let found = oldest(vec![part(Some(2), 1), part(Some(1), 2), (link, Some(1), None)]);
        assert_eq!((found.len(), found[0].incarnation, found[0].interfaces[0].1), (1, Some(1), 2));
        assert!(goes_with(Some(1), &found[0]) && goes_with(None, &found[0]) && !goes_with(Some(2), &found[0]));
        // What does not tell its incarnation makes that of the whole unknown.
        let found = oldest(vec![part(Some(2), 1), part(None, 2)]);
        assert_eq!((found[0].incarnation, found[0].interfaces.len()), (None, 2));
        assert!(goes_with(Some(2), &found[0]));
    }
}
