//! Where things lie in the state: one tag byte, then the rest of the key.

/// The chain configuration.
pub const CONFIG: &[u8] = b"\x01config";
/// The hash of the genesis.
pub const GENESIS: &[u8] = b"\x01genesis";
/// First byte of every member key.
pub const MEMBER_TAG: u8 = 2;
/// First byte of everything contracts store.
pub const STORAGE_TAG: u8 = 4;
/// First byte of every organisation key.
pub const ORGANISATION_TAG: u8 = 7;

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

/// Key of a member record by address.
pub fn member(address: &[u8]) -> Vec<u8> {
    tagged(MEMBER_TAG, address)
}

/// Key of a contract record by name.
pub fn contract(name: &str) -> Vec<u8> {
    tagged(3, name.as_bytes())
}

/// Key of a contract's ABI by contract name.
pub fn abi(name: &str) -> Vec<u8> {
    tagged(5, name.as_bytes())
}

/// Key of a module by the hash of its code.
pub fn code(code_hash: &[u8]) -> Vec<u8> {
    tagged(6, code_hash)
}

/// Key of an organisation by id.
pub fn organisation(id: &str) -> Vec<u8> {
    tagged(ORGANISATION_TAG, id.as_bytes())
}

/// Prefix of everything a contract stores.
///
/// # Panics
/// If the name is longer than 255 bytes; installation refuses names above 64.
pub fn storage_prefix(contract: &str) -> Vec<u8> {
    let length = u8::try_from(contract.len()).expect("contract names have at most 64 bytes");
    let mut key = Vec::with_capacity(2 + contract.len());
    key.extend_from_slice(&[STORAGE_TAG, length]);
    key.extend_from_slice(contract.as_bytes());
    key
}

/// The contract that stores under a key, and the key within it; none for the chain's own records.
pub fn split_storage(key: &[u8]) -> Option<(&str, &[u8])> {
    let (tag, rest) = key.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (contract, key) = rest.split_at_checked(usize::from(*length))?;
    let contract = std::str::from_utf8(contract).ok()?;
    (*tag == STORAGE_TAG).then_some((contract, key))
}

/// The smallest key above every key with this prefix, if there is one.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}
