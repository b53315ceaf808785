//! The names of the kernel's drop reasons, from the kernel itself: BTF, the type information that it carries
//! (`Documentation/bpf/btf.rst`). Numbers of reasons change from version to version; names stay.

use std::collections::BTreeMap;

const MAGIC: u16 = 0xeb9f;
const KIND_ENUM: u32 = 6;

/// The values of an enumeration, by number.
pub(super) fn enumeration(btf: &[u8], wanted: &str) -> Option<BTreeMap<u32, String>> {
    if half(btf, 0)? != MAGIC {
        return None;
    }
    // struct btf_header: magic, version, flags, hdr_len, then offsets after the header and lengths of types and strings.
    let header = word(btf, 4)? as usize;
    let types = section(btf, header, word(btf, 8)?, word(btf, 12)?)?;
    let strings = section(btf, header, word(btf, 16)?, word(btf, 20)?)?;
    let mut at = 0;
    // struct btf_type: name, then vlen (16 bits) and kind (5 bits from bit 24), then a size or type.
    while let (Some(name), Some(info)) = (word(types, at), word(types, at + 4)) {
        let (kind, entries) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        at += 12;
        if kind == KIND_ENUM && string(strings, name) == Some(wanted) {
            let entry = |i| Some((word(types, at + 8 * i + 4)?, string(strings, word(types, at + 8 * i)?)?.to_owned()));
            return (0..entries).map(entry).collect();
        }
        at += following_bytes(kind, entries)?;
    }
    None
}

/// Bytes of what follows a `struct btf_type`, by its kind.
fn following_bytes(kind: u32, entries: usize) -> Option<usize> {
    Some(match kind {
        // Int, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array; members of structures and unions.
        3 => 12,
        4 | 5 | 15 | 19 => entries * 12,
        KIND_ENUM | 13 => entries * 8,
        // Pointer, forward, typedef, qualifiers, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn section(btf: &[u8], header: usize, offset: u32, length: u32) -> Option<&[u8]> {
    let start = header.checked_add(offset as usize)?;
    btf.get(start..start.checked_add(length as usize)?)
}

fn string(strings: &[u8], at: u32) -> Option<&str> {
    let rest = strings.get(at as usize..)?;
    std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == 0)?]).ok()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An integer, a structure of one member, and the enumeration.
    fn sample() -> Vec<u8> {
        let types: Vec<u32> =
            [vec![1, 1 << 24, 4, 32], vec![5, 4 << 24 | 1, 4, 5, 1, 0], vec![9, 6 << 24 | 2, 4, 13, 0, 15, 7]].concat();
        let strings = b"\0int\0str\0why\0A\0B\0";
        let (types_bytes, strings_bytes) = ((types.len() * 4) as u32, strings.len() as u32);
        let mut btf = MAGIC.to_ne_bytes().to_vec();
        btf.extend([1, 0]);
        for value in [24, 0, types_bytes, types_bytes, strings_bytes] {
            btf.extend(value.to_ne_bytes());
        }
        btf.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        btf.extend(strings);
        btf
    }

    #[test]
    fn an_enumeration_is_found_behind_other_types() {
        let values = enumeration(&sample(), "why").expect("it is there");
        assert_eq!(values, BTreeMap::from([(0, "A".to_owned()), (7, "B".to_owned())]));
        assert_eq!(enumeration(&sample(), "not"), None);
    }

    #[test]
    fn what_is_cut_off_is_no_enumeration() {
        let whole = sample();
        for length in 0..whole.len() - 2 {
            assert_eq!(enumeration(&whole[..length], "why"), None, "{length}");
        }
    }
}
