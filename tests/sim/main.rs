//! Seeded simulation over the pure cores: partition, log and session, driven through their shipped entry points, with
//! clients that read bytes and a shadow model that knows only what was produced.
//!
//! What must hold, whatever the seed: between two resumes the offsets of a partition only go up and none comes twice;
//! every byte is the one that was produced; whatever a client did not get is inside a gap or was dead-lettered or never
//! was a record; a hole is never called a gap; every resume gets its one answer and its one end; and when all is quiet
//! everybody stands at the end. With the tiers below the log, in two of three runs, nothing that Kafka still has may be
//! called lost unless the client was told that it falls behind. A failure prints the seed: `DASHSTREAM_SIM_SEED=7 DASHSTREAM_SIM_RUNS=1` replays it, and
//! `DASHSTREAM_SIM_TRACE=1` prints what was said.

#![allow(clippy::disallowed_methods, reason = "a test reads its own two variables")]

mod client;
mod host;
mod produced;
mod said;
mod seen;
mod tiers;
mod world;

use world::World;

/// Runs per `cargo test`, each some thousand steps.
const RUNS: u64 = 300;
const STEPS: u64 = 4_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "the seed of a failure, and what was tried")]
fn every_client_has_everything_or_knows_what_it_missed() {
    let first = number("DASHSTREAM_SIM_SEED", 1);
    let runs = number("DASHSTREAM_SIM_RUNS", RUNS);
    let trace = number("DASHSTREAM_SIM_TRACE", 0) > 0;
    let mut seen = seen::Seen::default();
    for seed in first..first + runs {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, trace);
            for _ in 0..STEPS {
                world.step();
            }
            world.settle();
            world.seen
        });
        match outcome {
            Ok(one) => seen.add(&one),
            Err(panic) => {
                eprintln!("seed {seed} failed: DASHSTREAM_SIM_SEED={seed} DASHSTREAM_SIM_RUNS=1 replays it");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{runs} runs, {} steps, {seen:?}", runs * STEPS);
    if runs >= 100 {
        seen.assert_rich();
    }
}
