//! Cuts what `export` wrote into the JSON objects of its events, without holding more than one of them. Pure.
//!
//! One object after the other (jsonl), or one object with a list `events` and then perhaps a list `findings` (json),
//! pretty or not: which it is shows by itself. Only brackets and strings are looked at; whether an object is JSON is for its reader to judge.

/// A larger object is hardly an event.
pub(super) const OBJECT_BYTES_MAX: usize = 256 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum SplitError {
    #[error("it does not begin with {{, so it is no JSON object")]
    NotAnObject,
    #[error("a bracket closes that was not opened")]
    Unbalanced,
    #[error("an object of more than {OBJECT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it ends inside an object: it was cut")]
    Cut,
}

#[derive(Default, Debug)]
pub(super) struct Splitter {
    /// What was read of the object under way.
    object: Vec<u8>,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Within the list of events, or of findings, at depth 2; its objects are what is wanted.
    in_events: bool,
    /// Where the string began that was read last at depth 1, to know the list by its name.
    string_from: usize,
    named_events: bool,
}

impl Splitter {
    /// Takes bytes; hands every object that ends in them to `each`.
    pub(super) fn feed<E: From<SplitError>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            if self.object.len() >= OBJECT_BYTES_MAX {
                return Err(SplitError::TooLarge.into());
            }
            if self.step(byte)? {
                each(&self.object)?;
                self.object.clear();
            }
        }
        Ok(())
    }

    /// There is nothing more.
    pub(super) fn end(&self) -> Result<(), SplitError> {
        if self.depth == 0 { Ok(()) } else { Err(SplitError::Cut) }
    }

    /// True: `object` is complete.
    fn step(&mut self, byte: u8) -> Result<bool, SplitError> {
        let base = if self.in_events { 2 } else { 0 };
        if self.in_string {
            self.object.push(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    let text = self.object.get(self.string_from..).unwrap_or_default();
                    let is_list = match text {
                        b"\"events\"" => true,
                        // Behind the events of a document; a line of its own has no such list.
                        b"\"findings\"" => self.object.first() == Some(&b'~'),
                        _ => false,
                    };
                    self.named_events = self.depth == 1 && is_list;
                }
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'"' => {
                if self.depth == base {
                    return Err(SplitError::NotAnObject);
                }
                self.in_string = true;
                self.string_from = self.object.len();
            }
            b'{' | b'[' => {
                if self.depth == 0 && byte == b'[' {
                    return Err(SplitError::NotAnObject);
                }
                self.depth += 1;
                if byte == b'[' && self.depth == 2 && self.named_events {
                    self.in_events = true;
                    self.object.clear();
                    return Ok(false);
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.checked_sub(1).ok_or(SplitError::Unbalanced)?;
                if self.in_events && self.depth < 2 {
                    self.in_events = false;
                    // What follows is the sum of it, which is an object of its own to nobody.
                    self.object.clear();
                    self.object.push(b'~');
                    return Ok(false);
                }
                if self.depth == base && byte == b'}' {
                    self.object.push(byte);
                    if self.object.first() == Some(&b'~') {
                        self.object.clear();
                        return Ok(false);
                    }
                    return Ok(true);
                }
            }
            b' ' | b'\n' | b'\r' | b'\t' if self.depth == base => return Ok(false),
            b',' if self.in_events && self.depth == base => return Ok(false),
            b':' => {}
            _ if self.depth == base => return Err(SplitError::NotAnObject),
            _ => {}
        }
        // The name of a field counts until its value has begun.
        if !matches!(byte, b':' | b' ' | b'\n' | b'\r' | b'\t') {
            self.named_events = false;
        }
        self.object.push(byte);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str, piece: usize) -> Result<Vec<String>, SplitError> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for bytes in text.as_bytes().chunks(piece.max(1)) {
            splitter.feed(bytes, |object| {
                found.push(String::from_utf8_lossy(object).into_owned());
                Ok::<_, SplitError>(())
            })?;
        }
        splitter.end()?;
        Ok(found)
    }

    #[test]
    fn lines_and_lists_are_cut_into_their_objects() {
        let check = |text: &str, expected: &[&str]| {
            for piece in [1, 3, 1_000] {
                assert_eq!(split(text, piece).as_deref(), Ok(&expected.map_to_owned()[..]), "{text}");
            }
        };
        check("", &[]);
        check("\n\n", &[]);
        check("{\"a\":1}\n{\"b\":{\"c\":[1,{}]}}\n", &["{\"a\":1}", "{\"b\":{\"c\":[1,{}]}}"]);
        check("{\"a\":\"}\\\"{\"} {}", &["{\"a\":\"}\\\"{\"}", "{}"]);
        check(
            "{\"thread_id\":null,\"events\":[{\"a\":1},{\"events\":[{\"b\":2}]}],\"total_events\":2}\n",
            &["{\"a\":1}", "{\"events\":[{\"b\":2}]}"],
        );
        check(
            "{\n  \"x\": {\"events\": [{\"no\": 1}]},\n  \"events\": [\n    {\"a\": [{}]}\n  ],\n  \"n\": {\"c\": 1}\n}",
            &["{\"a\": [{}]}"],
        );
        check("{\"events\":[],\"total_events\":0}", &[]);
        check(
            "{\"events\":[{\"a\":1}],\"n\":1,\"findings\":[\n{\"b\":[{}]},\n{\"c\":2}\n]}\n",
            &["{\"a\":1}", "{\"b\":[{}]}", "{\"c\":2}"],
        );
        check("{\"events\":[],\"findings\":[{\"b\":1}],\"n\":{\"c\":[1]}}", &["{\"b\":1}"]);
        check("{\"findings\":[{\"b\":1}]}", &["{\"findings\":[{\"b\":1}]}"]);
        // A line that only says the word.
        check("{\"events\":1}\n{\"events\":{\"a\":[{}]}}", &["{\"events\":1}", "{\"events\":{\"a\":[{}]}}"]);
    }

    #[test]
    fn what_is_none_is_refused() {
        for (text, error) in [
            ("[{\"a\":1}]", SplitError::NotAnObject),
            ("message_id,sequence\n", SplitError::NotAnObject),
            ("{\"a\":1}}", SplitError::Unbalanced),
            ("{\"a\":1", SplitError::Cut),
            ("{\"events\":[{\"a\":1}", SplitError::Cut),
            ("{\"events\":[1]}", SplitError::NotAnObject),
            ("\"text\"", SplitError::NotAnObject),
        ] {
            assert_eq!(split(text, 1_000), Err(error), "{text}");
        }
    }

    trait Owned {
        fn map_to_owned(&self) -> Vec<String>;
    }

    impl Owned for &[&str] {
        fn map_to_owned(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    proptest! {
        /// Nothing from outside may end the program.
        #[test]
        fn whatever_comes_is_cut_or_refused(text in "[\\[\\]{}\":,a-e\\\\ \n]{0,200}", piece in 1..50usize) {
            let whole = split(&text, 1_000);
            prop_assert_eq!(split(&text, piece), whole);
        }
    }
}
