//! What models say in a demo: sentences with slots, so that an answer that streams in reads like one.
//!
//! One table per voice and one of the words for the slots. Deliberately absent: who speaks when (`script`).

use super::dice::Dice;

/// A way to speak: sentences, of which some are strung together.
#[derive(Debug)]
pub struct Voice {
    pub sentences: &'static [&'static str],
    pub least: u64,
    pub most: u64,
}

/// The words that fill the slots. `{topic}` is what the run is about; `{n}` and `{pct}` are numbers.
const SLOTS: &[(&str, &[&str])] = &[
    (
        "source",
        &[
            "the 2024 survey",
            "two field studies",
            "the vendor's own report",
            "a replication from Delft",
            "the public data set",
            "three independent reviews",
            "an older meta-analysis",
            "the appendix of the filing",
        ],
    ),
    (
        "aspect",
        &[
            "cost",
            "reliability",
            "supply",
            "safety",
            "adoption",
            "long-term storage",
            "energy use",
            "maintenance",
            "regional policy",
            "durability",
        ],
    ),
    ("verb", &["confirms", "contradicts", "narrows", "supports", "qualifies", "explains", "leaves open"]),
    (
        "module",
        &[
            "the retry loop",
            "the session cache",
            "the migration",
            "the request parser",
            "the new feature flag",
            "the pool's release path",
            "the pagination helper",
            "the error mapping",
        ],
    ),
    (
        "file",
        &[
            "src/session.rs",
            "api/handlers.py",
            "lib/pool.ts",
            "internal/queue.go",
            "db/migrations/0042.sql",
            "web/cart.tsx",
            "src/codec.rs",
            "jobs/nightly.py",
        ],
    ),
    (
        "fault",
        &[
            "an off-by-one at the last page",
            "a lock held across a call",
            "a missing bound on the buffer",
            "an unchecked cast",
            "a swallowed error",
            "a time zone that is assumed",
            "a test that never fails",
            "an index that is not used",
        ],
    ),
    ("customer", &["the customer", "the account owner", "the team lead", "the buyer", "the administrator"]),
    (
        "remedy",
        &[
            "a refund of the last invoice",
            "a fresh activation link",
            "moving them to the new plan",
            "a credit for the outage",
            "resetting the second factor",
            "re-sending the export",
            "merging both accounts",
        ],
    ),
    ("table", &["orders", "shipments", "sessions", "invoices", "sensor_readings", "returns", "subscriptions"]),
    ("column", &["currency", "created_at", "warehouse_id", "unit_price", "country", "customer_ref", "discount"]),
    (
        "service",
        &["checkout", "search", "billing", "the edge proxy", "notifications", "the ledger", "inventory", "login"],
    ),
    (
        "signal",
        &[
            "p99 latency",
            "the error ratio",
            "queue depth",
            "heap usage",
            "connection churn",
            "retry volume",
            "disk wait",
        ],
    ),
    (
        "cause",
        &[
            "a config push at 09:42",
            "an expired certificate",
            "a hot partition",
            "a slow replica",
            "a connection leak",
            "a cache that was emptied",
            "a runaway batch job",
        ],
    ),
    (
        "clause",
        &[
            "the termination clause",
            "the liability cap",
            "the renewal terms",
            "the audit right",
            "the data-processing annex",
            "the payment schedule",
            "the exclusivity paragraph",
        ],
    ),
    ("party", &["the supplier", "the customer", "either party", "the reseller", "the licensee"]),
    ("risk", &["low", "moderate", "worth a second look", "above our usual limit", "acceptable with a note"]),
    ("region", &["Northern Europe", "the coastal grid", "Southeast Asia", "the Midwest", "Iberia", "the Nordics"]),
    ("day", &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]),
];

pub const PLANNING: Voice = Voice {
    least: 2,
    most: 4,
    sentences: &[
        "The request is about {topic}, so I will first collect what is known and then check it against {source}. ",
        "I split {topic} into {n} questions and start with {aspect}, because the rest depends on it. ",
        "Before answering I want at least two sources on {aspect}. ",
        "There is enough budget for {n} lookups; I will keep two in reserve. ",
        "The plan is short: gather, compare, decide, and say what stays uncertain. ",
        "What would change my mind is a number on {aspect} that is newer than {source}. ",
        "I will not repeat what the last run found about {topic}; only what is new matters. ",
        "If the first lookup comes back empty I will widen the question instead of guessing. ",
    ],
};

pub const JUDGING: Voice = Voice {
    least: 2,
    most: 4,
    sentences: &[
        "The draft answers the question on {topic}, but one claim about {aspect} has no source. ",
        "Structure is clear and the numbers add up; I checked {n} of them. ",
        "It {verb} what {source} says, and it says so openly. ",
        "One paragraph could go: it repeats the finding on {aspect}. ",
        "Confidence is {pct} percent, limited mostly by {aspect}. ",
        "Nothing here is invented as far as I can trace it, and the caveats are where a reader needs them. ",
        "The tone fits; the conclusion should come first. ",
        "I would accept this with a small change to the summary. ",
    ],
};

pub const RESEARCH: Voice = Voice {
    least: 5,
    most: 9,
    sentences: &[
        "On {topic}, {source} is the strongest evidence, and it {verb} the common view. ",
        "The largest uncertainty is {aspect}: estimates differ by {pct} percent between studies. ",
        "In {region} the picture is different, mainly because of {aspect}. ",
        "Of {n} papers reviewed, {n} report a measurable effect and the rest are inconclusive. ",
        "A second reading of {source} suggests that {aspect} was not controlled for. ",
        "Taken together, progress on {topic} is real but slower than headlines suggest. ",
        "The cost fell by {pct} percent since 2020, and most of that came from {aspect}. ",
        "Experts disagree on {aspect}; the disagreement is about method rather than data. ",
        "What is missing is a long series of measurements from {region}. ",
        "For a decision this year, {aspect} matters more than {aspect}. ",
        "{source} reaches the same conclusion by another route, which makes it more credible. ",
        "One should not read too much into a single year: the sample covers {n} sites. ",
        "The practical advice is to wait for the next release of {source} before committing. ",
        "I found no support for the claim that {topic} is solved. ",
    ],
};

pub const REVIEW: Voice = Voice {
    least: 4,
    most: 8,
    sentences: &[
        "In `{file}` line {n}, {module} can run twice when the first attempt times out. ",
        "I found {fault} in `{file}`; a test with an empty list shows it. ",
        "The change to {module} is easy to follow and well named. ",
        "Please cover the case where {topic} arrives before the session exists. ",
        "`{file}` now does two things; moving {module} to its own file would help the next reader. ",
        "All {n} tests pass here, and coverage of the changed lines is {pct} percent. ",
        "The comment above {module} describes the old behaviour. ",
        "There is {fault}, although it is harmless as long as the caller checks the length. ",
        "I would return an error here instead of logging and going on. ",
        "Nothing in this change touches the public interface, so a patch release is fine. ",
        "The benchmark shows {pct} percent fewer allocations, which is what the description promised. ",
        "This looks right to me apart from {fault}. ",
        "For {topic} I suggest a property test; the examples do not reach the boundary. ",
    ],
};

pub const SUPPORT: Voice = Voice {
    least: 3,
    most: 6,
    sentences: &[
        "Thank you for writing to us about {topic}. ",
        "I looked at the account and can see what happened on {day}. ",
        "The quickest way out is {remedy}, which I have prepared for you. ",
        "Nothing was lost: your data is exactly as it was before. ",
        "If you would rather have {remedy}, just answer this message. ",
        "Our records show {n} attempts within an hour, which is why the system paused the account. ",
        "The change takes effect within {n} minutes and needs nothing from your side. ",
        "I am sorry for the trouble; {topic} should not have taken this long. ",
        "I have also told the team that owns this page, because you are not the first to stumble over it. ",
        "For the invoice of {day}, {remedy} has been arranged. ",
        "Please do not send us your password; we never need it. ",
        "If the problem returns, mention this ticket and we will pick up where we left off. ",
    ],
};

pub const PIPELINE: Voice = Voice {
    least: 3,
    most: 6,
    sentences: &[
        "The batch on {topic} holds {n} thousand rows of `{table}`, of which {pct} percent are new. ",
        "`{table}.{column}` was empty in {n} rows; they are kept aside with the reason. ",
        "Row counts match the source exactly, and so do the sums of `{column}`. ",
        "Compared with {day}, volume is up by {pct} percent, which is within the usual range. ",
        "Two rows of `{table}` arrived twice and were merged by their key. ",
        "The slowest part was the join with `{table}`; an index on `{column}` would halve it. ",
        "No schema change was seen since {day}. ",
        "Late rows for {topic} will be picked up by the next run. ",
        "Freshness is {n} minutes, well inside the agreement. ",
        "I recommend a check on `{column}`: its distribution moved by {pct} percent. ",
        "Nothing was written to `{table}` before all checks had passed. ",
    ],
};

pub const INCIDENT: Voice = Voice {
    least: 4,
    most: 7,
    sentences: &[
        "Users of {service} see errors since about {n} minutes; {pct} percent of requests are affected. ",
        "{signal} rose first, then {signal}, which points away from the database. ",
        "The most likely cause is {cause}, because nothing else changed in that window. ",
        "Rolling back {service} is safe: the last {n} deploys kept the schema. ",
        "I ruled out {cause} by comparing both regions. ",
        "After the change, {signal} is back at its level of {day}. ",
        "{service} recovered without help, but {signal} is still higher than it should be. ",
        "Concerning {topic}: the alert fired {n} minutes after the first error, which is too late. ",
        "The short fix holds; the lasting one is a limit in {service}. ",
        "No data was lost. Queued work for {service} drains at the normal rate. ",
        "As a follow-up, {signal} needs an alert of its own. ",
        "A similar thing happened on {day} and was closed without a cause. ",
    ],
};

pub const CONTRACT: Voice = Voice {
    least: 4,
    most: 7,
    sentences: &[
        "For {topic}, {clause} differs from our standard in one point. ",
        "Under {clause}, {party} may end the agreement with {n} days' notice. ",
        "The liability of {party} is capped at {pct} percent of annual fees. ",
        "I rate the risk of {clause} as {risk}. ",
        "{clause} refers to an annex that is not part of the document. ",
        "A plain reading of {clause} favours {party}. ",
        "Compared with {n} earlier agreements, {clause} is unusual but not unheard of. ",
        "We could accept this if {party} confirms the retention period in writing. ",
        "Renewal is automatic unless {party} objects {n} days before the term ends. ",
        "Taken as a whole the risk is {risk}. ",
        "I suggest replacing {clause} by our own wording of last year. ",
    ],
};

/// Replaces `text` by a new utterance about `topic`. No sentence comes twice in a row.
pub fn speak(voice: &Voice, topic: &str, dice: &mut Dice, text: &mut String) {
    text.clear();
    let count = voice.sentences.len() as u64;
    let mut at = dice.below(count);
    for _ in 0..dice.between(voice.least, voice.most) {
        fill(voice.sentences[at as usize], topic, dice, text);
        at = (at + dice.between(1, count - 1)) % count;
    }
}

/// One sentence that a model thinks and does not say.
pub fn thought(topic: &str, dice: &mut Dice) -> String {
    let mut text = String::new();
    fill(dice.pick(PLANNING.sentences), topic, dice, &mut text);
    text.truncate(text.trim_end().len());
    text
}

/// Appends `sentence` with its slots filled; its first letter, and that of a slot at its beginning, is a capital.
pub fn fill(sentence: &str, topic: &str, dice: &mut Dice, text: &mut String) {
    let begin = text.len();
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (slot, after) = after.split_once('}').unwrap_or((after, ""));
        match slot {
            "topic" => text.push_str(topic),
            "n" => text.push_str(itoa(dice.between(2, 48), &mut [0; 20])),
            "pct" => text.push_str(itoa(dice.between(3, 96), &mut [0; 20])),
            _ => {
                let words = SLOTS.iter().find(|(name, _)| *name == slot).map_or(&["it"][..], |(_, words)| words);
                text.push_str(dice.pick(words));
            }
        }
        rest = after;
    }
    text.push_str(rest);
    if let Some(first) = text.get_mut(begin..begin + 1) {
        first.make_ascii_uppercase();
    }
}

fn itoa(mut number: u64, buffer: &mut [u8; 20]) -> &str {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&buffer[at..]).unwrap_or("0");
        }
    }
}

/// The next piece of a text as a model would send it: one to three words with the blank after them.
pub fn next_words<'a>(text: &'a str, from: usize, dice: &mut Dice) -> &'a str {
    let rest = text.get(from..).unwrap_or("");
    let words = dice.between(1, 3);
    let end = rest.match_indices(' ').nth(words as usize - 1).map_or(rest.len(), |(at, _)| at + 1);
    rest.get(..end).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOICES: [&Voice; 8] = [&PLANNING, &JUDGING, &RESEARCH, &REVIEW, &SUPPORT, &PIPELINE, &INCIDENT, &CONTRACT];

    #[test]
    fn every_slot_of_every_sentence_has_words() {
        for voice in VOICES {
            assert!(voice.sentences.len() as u64 > voice.most, "no sentence twice in one answer by necessity");
            for sentence in voice.sentences {
                let mut text = String::new();
                fill(sentence, "a topic", &mut Dice::new(1), &mut text);
                assert!(!text.contains(['{', '}']), "{text}");
                assert!(
                    text.ends_with(". ") && text.starts_with(|first: char| first.is_uppercase() || first == '`'),
                    "{text}"
                );
                for slot in sentence.split('{').skip(1).filter_map(|part| part.split_once('}')) {
                    let known =
                        ["topic", "n", "pct"].contains(&slot.0) || SLOTS.iter().any(|(name, _)| *name == slot.0);
                    assert!(known, "{sentence}: {}", slot.0);
                }
            }
        }
    }

    #[test]
    fn words_joined_are_the_text() {
        let mut dice = Dice::new(9);
        let mut text = String::new();
        speak(&RESEARCH, "grid batteries", &mut dice, &mut text);
        assert!(text.len() > 200, "{text}");
        let mut joined = String::new();
        while joined.len() < text.len() {
            let words = next_words(&text, joined.len(), &mut dice);
            assert!(!words.trim().is_empty());
            joined.push_str(words);
        }
        assert_eq!(joined, text);
        assert_eq!(next_words(&text, text.len(), &mut dice), "");
    }

    #[test]
    fn answers_differ() {
        let mut dice = Dice::new(5);
        let mut answers: Vec<String> = (0..500)
            .map(|_| {
                let mut text = String::new();
                speak(&INCIDENT, "slow checkout", &mut dice, &mut text);
                text
            })
            .collect();
        answers.sort();
        answers.dedup();
        assert_eq!(answers.len(), 500);
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 7, 10, 48, u64::MAX] {
            assert_eq!(itoa(number, &mut [0; 20]), number.to_string());
        }
    }
}
