//! Cutting a stream of bytes into JSON texts.
//!
//! OVSDB puts one JSON object after the other on the stream, with nothing that says where one ends. So the framer
//! follows braces and strings, byte by byte and each byte once, however the bytes arrive.

/// Longest text that is accepted, in bytes. The whole configuration of a switch with tens of thousands of ports fits.
pub(super) const LIMIT: usize = 256 << 20;

/// The stream is not a sequence of JSON objects, and nothing after this can be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Something other than an object begins.
    #[error("the stream holds byte {0:#04x} where an object should begin")]
    NoObject(u8),
    /// A bracket closes what another kind opened, or opens more levels than anybody needs.
    #[error("the stream holds brackets that make no sense")]
    Brackets,
    /// A text is longer than any that makes sense.
    #[error("the stream holds a text of more than {LIMIT} bytes")]
    TooLong,
}

/// Cuts a stream of bytes into the JSON objects that follow each other on it.
///
/// The cuts are right for valid JSON; whether a text is valid is for the parser to say.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Bytes of the buffer that were looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Framer {
    /// A framer at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what was read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole text, if it has arrived.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no more use then.
    pub fn next_text(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        self.buffer.drain(..=self.seen);
                        self.seen = 0;
                        continue;
                    }
                    b'{' => {}
                    other => return Err(FrameError::NoObject(other)),
                }
            }
            self.seen += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
                if self.depth == 0 {
                    if byte != b'}' {
                        return Err(FrameError::Brackets);
                    }
                    let rest = self.buffer.split_off(self.seen);
                    self.seen = 0;
                    return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
                }
            }
        }
        if self.buffer.len() > LIMIT { Err(FrameError::TooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "(\\PC|[\\\\\"{}\\[\\]\n]){0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[\"{}a\\\\]{0,4}", inner, 0..5).prop_map(|map| json!(map)),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Value> {
        value().prop_map(|value| json!({ "x": value }))
    }

    proptest! {
        /// However the stream is cut by the network, the same objects come out, and in the same order.
        #[test]
        fn objects_survive_any_cut(objects in prop::collection::vec(object(), 0..6), cuts in prop::collection::vec(1usize..40, 1..20), space in "[ \n\t\r]{0,3}") {
            let stream: Vec<u8> = objects.iter().flat_map(|it| format!("{it}{space}").into_bytes()).collect();
            let (mut framer, mut found) = (Framer::new(), Vec::new());
            let (mut rest, mut cuts) = (&stream[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                framer.push(now);
                while let Some(text) = framer.next_text().unwrap() {
                    found.push(serde_json::from_slice::<Value>(&text).unwrap());
                }
                rest = later;
            }
            prop_assert_eq!(found, objects);
        }

        #[test]
        fn nothing_makes_it_panic(chunks in prop::collection::vec(prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\"\\ ".to_vec())], 0..30), 0..20)) {
            let mut framer = Framer::new();
            for chunk in chunks {
                framer.push(&chunk);
                while let Ok(Some(_)) = framer.next_text() {}
            }
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (text, error) in
            [("[1]", FrameError::NoObject(b'[')), ("{]", FrameError::Brackets), ("x", FrameError::NoObject(b'x'))]
        {
            let mut framer = Framer::new();
            framer.push(text.as_bytes());
            assert_eq!(framer.next_text(), Err(error), "{text}");
        }
    }
}
