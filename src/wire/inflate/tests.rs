//! Every way in which a value can be larger, shorter or other than it says.

use super::*;
use crate::words::DropReason;

const LIMIT: usize = 3 * 1024 * 1024;

/// A zstd frame with (as producers make it) or without its content size.
fn frame(content: &[u8], with_size: bool) -> Vec<u8> {
    let mut context = zstd_safe::CCtx::create();
    context.set_parameter(zstd_safe::CParameter::ContentSizeFlag(with_size)).expect("a parameter");
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
    context.compress2(&mut frame, content).expect("a frame");
    frame
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x50, 0x2A, 0x4D, 0x18];
    frame.extend_from_slice(&(content.len() as u32).to_le_bytes());
    frame.extend_from_slice(content);
    frame
}

/// Compressible, but not one byte repeated: several blocks and real sequences.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 27) as u8 ^ (index >> 9) as u8).collect()
}

fn value(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], body].concat()
}

fn inflate(inflater: &mut Inflater, value: &[u8]) -> Result<Vec<u8>, Refusal> {
    inflater.body(value).map(|body| body.bytes().to_vec())
}

const TOO_LARGE: Refusal = Refusal::TooLarge { limit: LIMIT };

#[test]
fn sizes_from_nothing_to_the_limit_and_one_beyond() {
    let mut inflater = Inflater::new(LIMIT);
    let steps = [0, 1, 511, SCRATCH_BYTES_MIN, SCRATCH_BYTES_MIN + 1, SCRATCH_BYTES_MAX - 1, SCRATCH_BYTES_MAX];
    for bytes in steps.into_iter().chain([SCRATCH_BYTES_MAX + 1, LIMIT / 2, LIMIT - 1, LIMIT]) {
        let content = content(bytes);
        for with_size in [true, false] {
            let frame = frame(&content, with_size);
            let declared = zstd_safe::get_frame_content_size(&frame).expect("a header");
            assert_eq!(declared.is_some(), with_size, "the corpus has both kinds");
            assert!(inflate(&mut inflater, &value(1, &frame)) == Ok(content.clone()), "{bytes} {with_size}");
            assert!(inflate(&mut inflater, &frame) == Ok(content.clone()), "legacy {bytes} {with_size}");
            assert!(inflater.scratch.capacity() <= SCRATCH_BYTES_MAX);
        }
    }
    let content = content(LIMIT + 1);
    for with_size in [true, false] {
        assert_eq!(inflate(&mut inflater, &value(1, &frame(&content, with_size))), Err(TOO_LARGE), "{with_size}");
    }
    assert_eq!(inflate(&mut inflater, &value(0, &content)), Err(TOO_LARGE));
    assert!(inflate(&mut inflater, &value(0, &content[..LIMIT])).is_ok());
}

#[test]
fn a_limit_below_the_scratch_size_is_kept() {
    for limit in [0, 1, 100, 20_000, SCRATCH_BYTES_MAX] {
        let mut inflater = Inflater::new(limit);
        for with_size in [true, false] {
            let fits = value(1, &frame(&content(limit), with_size));
            let not = value(1, &frame(&content(limit + 1), with_size));
            assert_eq!(inflate(&mut inflater, &fits).map(|body| body.len()), Ok(limit));
            assert_eq!(inflate(&mut inflater, &not), Err(Refusal::TooLarge { limit }), "{limit} {with_size}");
        }
    }
}

#[test]
fn a_bomb_is_refused_without_its_size_being_allocated() {
    let bomb = content(1).repeat(64 * 1024 * 1024);
    let mut inflater = Inflater::new(LIMIT);
    for with_size in [true, false] {
        let value = value(1, &frame(&bomb, with_size));
        assert!(value.len() < 20_000);
        assert_eq!(inflate(&mut inflater, &value), Err(TOO_LARGE));
        assert!(inflater.scratch.capacity() <= SCRATCH_BYTES_MAX);
    }
    // A header that promises more than there is, beyond and below the limit.
    let mut lying = vec![0x01, 0x28, 0xB5, 0x2F, 0xFD, 0xE0];
    lying.extend_from_slice(&u64::MAX.wrapping_sub(8).to_le_bytes());
    assert_eq!(inflate(&mut inflater, &lying), Err(TOO_LARGE));
    let mut lying = lying[..6].to_vec();
    lying.extend_from_slice(&(LIMIT as u64).to_le_bytes());
    assert_eq!(inflate(&mut inflater, &lying), Err(Refusal::Truncated));
}

#[test]
fn several_and_skippable_frames_are_one_stream() {
    let mut inflater = Inflater::new(LIMIT);
    let (one, two) = (content(1_000), content(2_000));
    let small = [frame(&one, true), skippable(b"note"), frame(&two, false)].concat();
    assert_eq!(inflate(&mut inflater, &value(1, &small)), Ok([one.clone(), two].concat()));

    // The first frame declares little; all together do not fit into the scratch.
    let big = content(SCRATCH_BYTES_MAX);
    let both = [frame(&one, true), frame(&big, true)].concat();
    assert!(inflate(&mut inflater, &value(1, &both)) == Ok([one.clone(), big].concat()));

    // Each within the limit, together beyond it.
    let half = frame(&content(LIMIT / 2 + 1), true);
    assert_eq!(inflate(&mut inflater, &value(1, &half.repeat(2))), Err(TOO_LARGE));

    assert_eq!(inflate(&mut inflater, &value(1, &skippable(b"only a note"))), Ok(Vec::new()));
}

#[test]
fn a_frame_that_was_cut_anywhere_is_truncated() {
    let mut inflater = Inflater::new(LIMIT);
    for content in [content(100), content(200_000)] {
        let whole = frame(&content, true);
        for cut in (0..whole.len()).step_by(1 + whole.len() / 97) {
            let found = inflate(&mut inflater, &value(1, &whole[..cut]));
            assert_eq!(found, Err(Refusal::Truncated), "{cut} of {}", whole.len());
            assert_eq!(found.map_err(DropReason::from).err(), Some(DropReason::BufferUnderflow));
        }
        // The second of two.
        let second = [whole.as_slice(), &whole[..whole.len() / 2]].concat();
        assert_eq!(inflate(&mut inflater, &value(1, &second)), Err(Refusal::Truncated));
    }
}

#[test]
fn what_zstd_does_not_like_is_bad_compression_and_the_next_record_is_fine() {
    let mut inflater = Inflater::new(LIMIT);
    let good = frame(&content(5_000), true);
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x55;
    let garbage = [good.as_slice(), b"and then some"].concat();
    let short_garbage = [good.as_slice(), b"!"].concat();
    for bad in [&b"not zstd at all"[..], b"\x0A\x00", &garbage, &short_garbage] {
        let found = inflate(&mut inflater, &value(1, bad)).map_err(DropReason::from);
        assert_eq!(found, Err(DropReason::BadCompression), "{bad:02x?}");
        assert_eq!(inflate(&mut inflater, &value(1, &good)), Ok(content(5_000)));
    }
    // A flipped bit is either noticed or decodes to something of the declared size.
    if let Ok(body) = inflate(&mut inflater, &value(1, &flipped)) {
        assert_eq!(body.len(), 5_000);
    }
}

#[test]
fn the_context_takes_what_the_memory_sum_says() {
    let mut inflater = Inflater::new(LIMIT);
    for bytes in [100, SCRATCH_BYTES_MAX, LIMIT] {
        inflate(&mut inflater, &value(1, &frame(&content(bytes), false))).expect("a body");
        let taken = inflater.context.as_ref().expect("a context").sizeof();
        assert!(taken <= CONTEXT_BYTES, "{taken}");
    }
}

#[test]
fn a_bare_stream_never_leaves_the_small_buffer() {
    let mut inflater = Inflater::new(LIMIT);
    assert_eq!(inflater.small(&frame(&content(9_000), true)), Ok(content(9_000).as_slice()));
    for with_size in [true, false] {
        let found = inflater.small(&frame(&content(SCRATCH_BYTES_MAX + 1), with_size)).map(<[u8]>::len);
        assert_eq!(found, Err(Refusal::TooLarge { limit: SCRATCH_BYTES_MAX }));
    }
    assert_eq!(inflater.small(&[]), Err(Refusal::Truncated));
}

#[test]
fn large_bodies_wait_for_a_seat_and_all_arrive() {
    let value = value(1, &frame(&content(SCRATCH_BYTES_MAX * 2), true));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..LARGE_BODIES_MAX * 3)
            .map(|_| {
                scope.spawn(|| {
                    let mut inflater = Inflater::new(LIMIT);
                    (0..20).map(|_| inflater.body(&value).map_or(0, |body| body.bytes().len())).sum::<usize>()
                })
            })
            .collect();
        for worker in workers {
            assert_eq!(worker.join().expect("a worker"), 20 * SCRATCH_BYTES_MAX * 2);
        }
    });
}
