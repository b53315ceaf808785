//! Big-endian numbers in bytes that may end too soon.

pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Text of a foreign host, fit to be shown: bounded, without control characters.
pub(crate) fn shown(text: &[u8]) -> String {
    const MOST_CHARACTERS: usize = 80;
    String::from_utf8_lossy(text)
        .chars()
        .filter(|c| !c.is_control())
        .take(MOST_CHARACTERS)
        .collect::<String>()
        .trim()
        .to_owned()
}
