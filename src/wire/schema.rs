//! The field table of `proto/dashstream.proto` as the scan needs it: which number carries what on the wire.
//! A test compares it with the proto file, field by field. Names, defaults and enum values are not here.

/// One message: the field with number n stands at index n - 1.
pub(super) struct Shape {
    pub(super) fields: &'static [Field],
}

#[derive(Clone, Copy)]
pub(super) enum Field {
    /// int32, int64, uint32, uint64, bool, enum.
    Varint,
    /// double.
    Fixed64,
    /// float.
    Fixed32,
    /// Repeated or not.
    String,
    /// Repeated or not.
    Bytes,
    /// Repeated or not.
    Message(&'static Shape),
    /// The shape is that of an entry: key 1, value 2.
    Map(&'static Shape),
    /// repeated uint32, packed or not.
    Varints,
    /// repeated float, packed or not.
    Fixed32s,
}

use Field::{Bytes, Fixed32, Fixed32s, Fixed64, Map, Message, String, Varint, Varints};

pub(super) static DASH_STREAM_MESSAGE: Shape = Shape {
    fields: &[
        Message(&EVENT),
        Message(&STATE_DIFF),
        Message(&TOKEN_CHUNK),
        Message(&TOOL_EXECUTION),
        Message(&CHECKPOINT),
        Message(&METRICS),
        Message(&ERROR),
        Message(&EVENT_BATCH),
        Message(&EXECUTION_TRACE),
    ],
};

static HEADER: Shape = Shape { fields: &[Bytes, Varint, String, String, Varint, Varint, Bytes, Varint, Varint] };

static EVENT: Shape = Shape { fields: &[Message(&HEADER), Varint, String, Map(&ATTRIBUTE_ENTRY), Varint, String] };

static EVENT_BATCH: Shape = Shape { fields: &[Message(&HEADER), Message(&EVENT)] };

static ATTRIBUTE_ENTRY: Shape = Shape { fields: &[String, Message(&ATTRIBUTE_VALUE)] };

static ATTRIBUTE_VALUE: Shape =
    Shape { fields: &[String, Varint, Fixed64, Varint, Bytes, Message(&ATTRIBUTE_ARRAY), Message(&ATTRIBUTE_MAP)] };

static ATTRIBUTE_ARRAY: Shape = Shape { fields: &[Message(&ATTRIBUTE_VALUE)] };

static ATTRIBUTE_MAP: Shape = Shape { fields: &[Map(&ATTRIBUTE_ENTRY)] };

static STATE_DIFF: Shape = Shape { fields: &[Message(&HEADER), Bytes, Message(&DIFF_OPERATION), Bytes, Bytes] };

static DIFF_OPERATION: Shape = Shape { fields: &[Varint, String, Bytes, String, Varint] };

static TOKEN_CHUNK: Shape = Shape {
    fields: &[
        Message(&HEADER),
        String,
        String,
        Varints,
        Fixed32s,
        Varint,
        Varint,
        Varint,
        String,
        Message(&TOKEN_STATS),
    ],
};

static TOKEN_STATS: Shape = Shape { fields: &[Varint, Varint, Varint] };

static TOOL_EXECUTION: Shape = Shape {
    fields: &[Message(&HEADER), String, String, Varint, Bytes, Bytes, String, Message(&ERROR), Varint, Varint],
};

static CHECKPOINT: Shape = Shape {
    fields: &[Message(&HEADER), Bytes, Bytes, String, Bytes, String, Message(&COMPRESSION_INFO), Map(&STRING_ENTRY)],
};

static COMPRESSION_INFO: Shape = Shape { fields: &[Varint, Varint, Varint, Fixed32] };

static METRICS: Shape = Shape { fields: &[Message(&HEADER), String, String, Map(&METRIC_ENTRY), Map(&STRING_ENTRY)] };

static METRIC_ENTRY: Shape = Shape { fields: &[String, Message(&METRIC_VALUE)] };

static METRIC_VALUE: Shape = Shape { fields: &[Varint, Fixed64, String, Varint, Bytes, String, Varint] };

static ERROR: Shape =
    Shape { fields: &[Message(&HEADER), String, String, String, Map(&STRING_ENTRY), Varint, String, String] };

static EXECUTION_TRACE: Shape = Shape {
    fields: &[
        Message(&HEADER),
        String,
        String,
        Message(&NODE_EXECUTION_RECORD),
        Varint,
        Varint,
        Message(&ERROR_RECORD),
        Varint,
        String,
        String,
        Bytes,
        Map(&BYTES_ENTRY),
    ],
};

static NODE_EXECUTION_RECORD: Shape = Shape {
    fields: &[String, Varint, Varint, Varint, Varint, Varint, String, String, Bytes, Bytes, Map(&STRING_ENTRY)],
};

static ERROR_RECORD: Shape = Shape { fields: &[String, String, String, String, Varint, String] };

static STRING_ENTRY: Shape = Shape { fields: &[String, String] };

static BYTES_ENTRY: Shape = Shape { fields: &[String, Bytes] };

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Walks the proto file and the table side by side.
    #[test]
    fn the_table_says_what_the_proto_file_says() {
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let set = protox::compile(["dashstream.proto"], [proto]).expect("a valid proto file");
        let file = set.file.first().expect("a file");

        let mut seen = BTreeSet::new();
        let mut open = vec![(".dashstream.v1.DashStreamMessage".to_owned(), &DASH_STREAM_MESSAGE)];
        let mut fields_compared = 0;
        while let Some((name, shape)) = open.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let mut path = name.trim_start_matches(".dashstream.v1.").split('.');
            let outer = path.next().expect("a message name");
            let mut message = file.message_type.iter().find(|message| message.name() == outer).expect("a message");
            for inner in path {
                message = message.nested_type.iter().find(|nested| nested.name() == inner).expect("a nested message");
            }
            assert_eq!(shape.fields.len(), message.field.len(), "{name}: number of fields");
            for field in &message.field {
                let number = field.number() as usize;
                let found = shape.fields.get(number - 1).expect("dense numbers");
                let repeated = field.label().as_str_name() == "LABEL_REPEATED";
                let entry = message
                    .nested_type
                    .iter()
                    .find(|nested| field.type_name().ends_with(&format!(".{}", nested.name())))
                    .and_then(|nested| nested.options.as_ref())
                    .is_some_and(|options| options.map_entry());
                let same = match (field.r#type().as_str_name(), repeated, *found) {
                    ("TYPE_INT32" | "TYPE_INT64" | "TYPE_UINT32" | "TYPE_UINT64", false, Varint) => true,
                    ("TYPE_BOOL" | "TYPE_ENUM", false, Varint) => true,
                    ("TYPE_UINT32", true, Varints) => true,
                    ("TYPE_FLOAT", false, Fixed32) | ("TYPE_FLOAT", true, Fixed32s) => true,
                    ("TYPE_DOUBLE", false, Fixed64) => true,
                    ("TYPE_STRING", _, String) | ("TYPE_BYTES", _, Bytes) => true,
                    ("TYPE_MESSAGE", _, Message(inner)) if !entry => {
                        open.push((field.type_name().to_owned(), inner));
                        true
                    }
                    ("TYPE_MESSAGE", true, Map(inner)) if entry => {
                        open.push((field.type_name().to_owned(), inner));
                        true
                    }
                    _ => false,
                };
                assert!(same, "{name}: field {number} ({})", field.name());
                fields_compared += 1;
            }
        }
        assert!(fields_compared > 100, "{fields_compared}");
    }
}
