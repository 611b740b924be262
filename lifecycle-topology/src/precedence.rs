//! What a node inherits: its own fields win over those of its group, then its kind, then the defaults.

use indexmap::IndexMap;
use serde_json::{Map as JsonMap, Value as Json};

use crate::decode::{At, Checked, Map};
use crate::file::{NodeDef, TopologyDef};
use crate::source::Span;

/// Whether a value counts as given. An empty text or a zero is the same as none, as in containerlab.
pub(crate) trait Given {
    fn is_given(&self) -> bool;
}

impl Given for String {
    fn is_given(&self) -> bool {
        !self.is_empty()
    }
}

impl Given for bool {
    fn is_given(&self) -> bool {
        true
    }
}

impl Given for u32 {
    fn is_given(&self) -> bool {
        *self != 0
    }
}

impl Given for f64 {
    fn is_given(&self) -> bool {
        *self != 0.0
    }
}

impl<T> Given for Vec<T> {
    fn is_given(&self) -> bool {
        !self.is_empty()
    }
}

impl<T> Given for Map<T> {
    fn is_given(&self) -> bool {
        !self.is_empty()
    }
}

impl Given for crate::file::HealthcheckDef {
    fn is_given(&self) -> bool {
        true
    }
}

/// One node's levels, most specific first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers<'f>([&'f NodeDef; 4]);

/// A field of every level.
pub(crate) type Field<T> = fn(&NodeDef) -> &Option<At<T>>;

/// What stands for a level that is not there.
static NOTHING: std::sync::LazyLock<NodeDef> = std::sync::LazyLock::new(NodeDef::default);

impl<'f> Layers<'f> {
    /// The levels of `node`, with its kind and its group when it has them.
    pub(crate) fn of(topology: &'f TopologyDef, node: Option<&'f NodeDef>) -> (Self, Option<&'f str>, Option<&'f str>) {
        let node = node.unwrap_or(&NOTHING);
        let defaults = topology.defaults.as_ref().map_or(&*NOTHING, |defaults| &defaults.value);
        let kind = text(&node.kind)
            .or_else(|| text(&entry(&topology.groups, text(&node.group)).kind))
            .or_else(|| text(&entry(&topology.groups, text(&defaults.group)).kind))
            .or_else(|| text(&defaults.kind));
        let of_kind = entry(&topology.kinds, kind);
        let group = text(&node.group).or_else(|| text(&of_kind.group)).or_else(|| text(&defaults.group));
        (Self([node, entry(&topology.groups, group), of_kind, defaults]), kind, group)
    }

    /// The first level's value that is given.
    pub(crate) fn first<T: Given>(&self, field: Field<T>) -> Option<&'f At<T>> {
        self.0.iter().find_map(|level| field(level).as_ref().filter(|value| value.is_given()))
    }

    /// All lists, least specific first, without repeats.
    pub(crate) fn concat(&self, field: Field<Vec<At<String>>>) -> Vec<&'f At<String>> {
        self.concat_by(field, |item| item)
    }

    /// All lists with one item per key, the most specific one, in the order of the keys.
    pub(crate) fn keyed(&self, field: Field<Vec<At<String>>>, key: fn(&str) -> &str) -> Vec<&'f At<String>> {
        let mut items = self.concat_by(field, key);
        items.sort_by_key(|item| key(item));
        items
    }

    fn concat_by(&self, field: Field<Vec<At<String>>>, key: fn(&str) -> &str) -> Vec<&'f At<String>> {
        let mut items: IndexMap<&str, &At<String>> = IndexMap::new();
        for level in self.0.iter().rev() {
            for item in field(level).iter().flat_map(|list| &list.value) {
                items.insert(key(item), item);
            }
        }
        items.into_values().collect()
    }

    /// All entries of all levels, where a key of a more specific level wins; with the place of each key.
    pub(crate) fn merge<T>(&self, field: Field<Map<T>>) -> IndexMap<&'f str, (Span, Option<&'f At<T>>)> {
        let mut entries = IndexMap::new();
        for level in self.0.iter().rev() {
            for (key, entry) in field(level).iter().flat_map(|map| &map.value) {
                entries.insert(key.as_str(), (entry.key, entry.value.as_ref()));
            }
        }
        entries
    }

    /// A record of all levels, where each of its fields is taken from the most specific level that gives it.
    pub(crate) fn merge_record<T>(&self, field: Field<Checked<T>>) -> Option<Json> {
        let mut merged = None;
        for level in self.0.iter().rev() {
            if let Some(Json::Object(more)) = field(level).as_ref().map(|checked| &checked.json) {
                merged.get_or_insert_with(JsonMap::new).extend(more.clone());
            }
        }
        merged.map(Json::Object)
    }

    /// The records of all levels, most specific first.
    pub(crate) fn records<T: 'f>(&self, field: Field<T>) -> impl DoubleEndedIterator<Item = &'f At<T>> {
        self.0.into_iter().filter_map(move |level| field(level).as_ref())
    }
}

fn text(field: &Option<At<String>>) -> Option<&str> {
    field.as_ref().map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn entry<'f>(levels: &'f Option<At<Map<NodeDef>>>, name: Option<&str>) -> &'f NodeDef {
    let found = levels.as_ref().zip(name).and_then(|(levels, name)| levels.get(name));
    found.and_then(|entry| entry.value.as_ref()).map_or(&*NOTHING, |level| &level.value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::FromTree;
    use crate::diagnostics::Problems;
    use crate::file::File;
    use crate::source::Source;

    fn topology(text: &str) -> TopologyDef {
        let mut problems = Problems::new(Source::new("t.yml", text));
        let node = crate::yaml::parse(text, &mut problems).unwrap();
        let file = File::from_tree(&node, &mut problems).unwrap();
        assert!(!problems.has_errors(), "{}", problems.into_report());
        file.topology.unwrap().value
    }

    fn layers<'f>(topology: &'f TopologyDef, name: &str) -> (Layers<'f>, Option<&'f str>, Option<&'f str>) {
        let entry = &topology.nodes.as_ref().unwrap()[name];
        Layers::of(topology, entry.value.as_ref().map(|node| &node.value))
    }

    const LEVELS: &str = "
topology:
  defaults: {group: g0, image: d, exec: [one, same], env: {A: d, B: d, D: d}, binds: ['d:/x', 'd:/z']}
  kinds:
    k: {group: gk, image: k, cmd: k, exec: [two], env: {B: k, C: k}, binds: ['k:/y:ro']}
    k0: {type: k0}
  groups:
    g: {kind: k, cmd: g, env: {C: g}, certificate: {issue: true, key-size: 1024}}
    g0: {kind: k0}
    gk: {user: gk}
  nodes:
    a: {group: g, exec: [same, three], env: {D: }, binds: ['n:/x'], certificate: {key-size: 2048}}
    b: {kind: k, image: ''}
    c:
";

    #[test]
    fn kind_and_group() {
        let topology = topology(LEVELS);
        let (_, kind, group) = layers(&topology, "a");
        assert_eq!((kind, group), (Some("k"), Some("g")));
        // The kind's group counts where the node has none, the default group's kind where there is no other.
        let (b, kind, group) = layers(&topology, "b");
        assert_eq!((kind, group), (Some("k"), Some("gk")));
        assert_eq!(b.first(|level| &level.user).unwrap().value, "gk");
        let (c, kind, group) = layers(&topology, "c");
        assert_eq!((kind, group), (Some("k0"), Some("g0")));
        assert_eq!(c.first(|level| &level.r#type).unwrap().value, "k0");
    }

    #[test]
    fn each_class_of_field() {
        let topology = topology(LEVELS);
        let (a, ..) = layers(&topology, "a");
        let (b, ..) = layers(&topology, "b");
        assert_eq!(a.first(|level| &level.cmd).unwrap().value, "g");
        assert_eq!(b.first(|level| &level.image).unwrap().value, "k", "an empty text is none");
        let exec: Vec<&str> = a.concat(|level| &level.exec).into_iter().map(|item| item.as_str()).collect();
        assert_eq!(exec, ["one", "same", "two", "three"]);
        let binds: Vec<&str> = a
            .keyed(|level| &level.binds, |bind| bind.split(':').nth(1).unwrap())
            .into_iter()
            .map(|item| item.as_str())
            .collect();
        assert_eq!(binds, ["n:/x", "k:/y:ro", "d:/z"]);
        let env = a.merge(|level| &level.env);
        let show = |key: &str| env[key].1.map(|value| value.as_str());
        assert_eq!([show("A"), show("B"), show("C"), show("D")], [Some("d"), Some("k"), Some("g"), None]);
        assert_eq!(
            a.merge_record(|level| &level.certificate),
            Some(serde_json::json!({"issue": true, "key-size": 2048}))
        );
        assert!(b.merge_record(|level| &level.certificate).is_none());
    }

    fn level(image: Option<&str>, key: Option<u8>, item: Option<u8>) -> NodeDef {
        let at = |value: String| At { value, span: Span::default() };
        let mut def = NodeDef { image: image.map(|text| at(text.to_owned())), ..NodeDef::default() };
        def.exec = item.map(|item| At { value: vec![at(item.to_string())], span: Span::default() });
        def.env = key.map(|key| {
            let value = at(image.unwrap_or("none").to_owned());
            let entry = crate::decode::Entry { key: Span::default(), value: Some(value) };
            At { value: Map::from([(key.to_string(), entry)]), span: Span::default() }
        });
        def
    }

    proptest! {
        #[test]
        fn laws(choices in prop::array::uniform4((prop::option::of("[ab]?"), prop::option::of(0u8..3), prop::option::of(0u8..3)))) {
            let defs = choices.each_ref().map(|(image, key, item)| level(image.as_deref(), *key, *item));
            let layers = Layers(defs.each_ref());
            // A scalar is the first that is not empty.
            let expected = choices.iter().find_map(|(image, ..)| image.as_deref().filter(|image| !image.is_empty()));
            prop_assert_eq!(layers.first(|level| &level.image).map(|image| image.as_str()), expected);
            // A map has every key once, with the value of the most specific level that has it.
            let merged = layers.merge(|level| &level.env);
            for key in 0..3u8 {
                let expected = choices.iter().find(|(_, k, _)| *k == Some(key)).map(|(image, ..)| image.as_deref().unwrap_or("none"));
                let found = merged.get(key.to_string().as_str()).and_then(|(_, value)| value.map(|value| value.as_str()));
                prop_assert_eq!(found, expected);
            }
            // A list has every item once.
            let mut items: Vec<&str> = layers.concat(|level| &level.exec).into_iter().map(|item| item.as_str()).collect();
            let count = items.len();
            items.sort_unstable();
            items.dedup();
            prop_assert_eq!(items.len(), count);
            prop_assert!(choices.iter().all(|(_, _, item)| item.is_none_or(|item| items.contains(&item.to_string().as_str()))));
        }
    }
}
