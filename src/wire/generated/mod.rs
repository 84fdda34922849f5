//! Protobuf types made from `proto/`, committed so that nobody needs `protoc` or a build script.
//!
//! Not to be edited by hand: after a change of a `.proto` file the test below fails, writes the new text under
//! `target/` and says which copy command takes it over.

#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "made by prost-build")]
pub mod dashstream_v1;
#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "made by prost-build")]
pub mod gateway_v2;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Proto file, file that prost-build names after the package, committed name, committed text.
    const GENERATED: [(&str, &str, &str, &str); 2] = [
        ("dashstream.proto", "dashstream.v1.rs", "dashstream_v1.rs", include_str!("dashstream_v1.rs")),
        ("gateway.proto", "dashstream.gateway.v2.rs", "gateway_v2.rs", include_str!("gateway_v2.rs")),
    ];

    #[test]
    fn committed_types_are_what_the_proto_files_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let out = root.join("target/generated");
        std::fs::create_dir_all(&out).expect("a directory for what was generated");

        let files = GENERATED.map(|(proto, ..)| proto);
        let descriptors = protox::compile(files, [root.join("proto")]).expect("valid proto files");
        prost_build::Config::new()
            // A map in a stable order: equal messages have equal bytes and equal JSON.
            .btree_map(["."])
            .out_dir(&out)
            .compile_fds(descriptors)
            .expect("generated code");

        let mut stale = String::new();
        for (_, made, committed, text) in GENERATED {
            let fresh = std::fs::read_to_string(out.join(made)).expect("the file just made");
            if let Some(line) = first_difference(text, &fresh) {
                stale.push_str(&format!(
                    "\nsrc/wire/generated/{committed} differs from line {line}; take the new text over with:\n  \
                     cp target/generated/{made} src/wire/generated/{committed}\n"
                ));
            }
        }
        assert!(stale.is_empty(), "{stale}");
    }

    /// Number of the first line that differs, from 1.
    fn first_difference(old: &str, new: &str) -> Option<usize> {
        if old == new {
            return None;
        }
        let same = old.lines().zip(new.lines()).take_while(|(old, new)| old == new).count();
        Some(same + 1)
    }
}
