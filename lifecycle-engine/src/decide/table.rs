//! A map of rows that remembers which of them a step has touched, so that exactly those are committed.

use std::collections::BTreeMap;

/// A row with a generation.
pub trait Row {
    /// Number of the last change that was stored.
    fn generation(&self) -> u64;
    /// Sets it.
    fn set_generation(&mut self, generation: u64);
}

/// What became of a touched row.
#[derive(Debug)]
pub enum Touched<'a, K, V> {
    /// It is to be written; its generation is the new one.
    Put(&'a V),
    /// It is to be removed; the generation is the stored one.
    Drop(K, u64),
}

/// Rows by key.
#[derive(Debug, Clone)]
pub struct Table<K, V> {
    rows: BTreeMap<K, V>,
    /// Stored generation of each row that was touched since the last drain; 0 for one that is not stored.
    touched: BTreeMap<K, u64>,
}

impl<K: Ord + Clone, V: Row> Table<K, V> {
    /// A table of stored rows.
    pub fn new(rows: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { rows: rows.into_iter().collect(), touched: BTreeMap::new() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A row, to read.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    /// All rows without their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.rows.values()
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.rows.keys()
    }

    /// A row, to change: it will be written.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let row = self.rows.get_mut(key)?;
        self.touched.entry(key.clone()).or_insert_with(|| row.generation());
        Some(row)
    }

    /// Adds a row that is not stored yet.
    pub fn insert(&mut self, key: K, row: V) {
        self.touched.entry(key.clone()).or_insert(0);
        self.rows.insert(key, row);
    }

    /// Removes a row.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let row = self.rows.remove(key)?;
        self.touched.entry(key.clone()).or_insert_with(|| row.generation());
        Some(row)
    }

    /// Keys of the rows that were touched since the last drain.
    pub fn touched(&self) -> impl Iterator<Item = &K> {
        self.touched.keys()
    }

    /// Hands out what was touched, with new generations, and forgets about it.
    pub fn drain(&mut self, mut each: impl FnMut(Touched<'_, K, V>)) {
        for (key, stored) in std::mem::take(&mut self.touched) {
            match self.rows.get_mut(&key) {
                Some(row) => {
                    row.set_generation(stored + 1);
                    each(Touched::Put(row));
                }
                // A row that was made and removed within one step was never stored.
                None if stored == 0 => {}
                None => each(Touched::Drop(key, stored)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u64);

    impl Row for Counter {
        fn generation(&self) -> u64 {
            self.0
        }
        fn set_generation(&mut self, generation: u64) {
            self.0 = generation;
        }
    }

    fn drain(table: &mut Table<u8, Counter>) -> Vec<(u8, Option<u64>)> {
        let mut seen = Vec::new();
        table.drain(|touched| match touched {
            Touched::Put(row) => seen.push((0, Some(row.0))),
            Touched::Drop(key, stored) => seen.push((key, Some(stored).filter(|_| false).or(None))),
        });
        seen
    }

    #[test]
    fn a_row_is_written_once_however_often_it_changes() {
        let mut table = Table::new([(1, Counter(4))]);
        table.get_mut(&1).unwrap();
        table.get_mut(&1).unwrap();
        assert_eq!(drain(&mut table), [(0, Some(5))]);
        assert!(drain(&mut table).is_empty());
    }

    #[test]
    fn what_was_never_stored_is_never_dropped() {
        let mut table = Table::new([(1, Counter(4))]);
        table.insert(2, Counter(0));
        table.remove(&2);
        table.remove(&1);
        assert_eq!(drain(&mut table), [(1, None)]);
    }
}
