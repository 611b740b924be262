//! News for those who watch, by looking again and again: directories are cheap to read. A client of a daemon would pass
//! the daemon's own events on instead.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(50);

/// Keys whose values changed, came or went, from now on. Ends when there is nothing to look at any more.
pub(crate) fn changes<K, V>(look: impl Fn() -> Option<BTreeMap<K, V>> + Send) -> impl Stream<Item = K> + Send
where
    K: Ord + Clone + Send,
    V: PartialEq + Send,
{
    let state = (look().unwrap_or_default(), VecDeque::new(), look);
    stream::unfold(state, |(mut seen, mut news, look)| async move {
        loop {
            if let Some(key) = news.pop_front() {
                return Some((key, (seen, news, look)));
            }
            tokio::time::sleep(PERIOD).await;
            let now = look()?;
            news.extend(now.iter().filter(|(key, value)| seen.get(key) != Some(value)).map(|(key, _)| key.clone()));
            news.extend(seen.into_keys().filter(|key| !now.contains_key(key)));
            seen = now;
        }
    })
}
