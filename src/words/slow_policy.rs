//! What becomes of a client that falls off the log: a word of the configuration, of the protocols and of `/clients`.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlowPolicy {
    /// It is brought up to date from the tiers below the log, unless it takes less than arrives.
    Catchup,
    /// It is told exactly what it missed, and goes on with what is there.
    Gap,
    /// It is closed with `fell_behind`.
    Close,
}

impl SlowPolicy {
    pub const ALL: [Self; 3] = [Self::Catchup, Self::Gap, Self::Close];

    pub fn label(self) -> &'static str {
        match self {
            Self::Catchup => "catchup",
            Self::Gap => "gap",
            Self::Close => "close",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.label() == word)
    }
}
