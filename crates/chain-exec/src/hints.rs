//! Which storage keys a call will touch, from its arguments alone.
//!
//! The contract compiler leaves a template per method in the ABI (docs/spec/access-templates.md);
//! filled with a call's sender and arguments it gives full state keys before anything runs. Hints
//! are advisory: a wrong or hostile template costs time, never correctness, so that whatever does
//! not fit is simply not predicted.

use std::cell::OnceCell;
use std::collections::HashMap;

use chain_state::keys;
use serde::Deserialize;

use crate::abi_types::{Kind, Place, Types};

/// Templates of one kind a method may have; the compiler writes at most 64.
const TEMPLATES_MAX: usize = 256;

/// What a template may ask about a call besides its arguments.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallContext<'a> {
    /// Address of the sender.
    pub sender: &'a [u8],
    /// The sender's organisation, as the member record has it.
    pub sender_org: &'a str,
    /// The sender's role in lower case.
    pub sender_role: &'a str,
    /// The sender's name.
    pub sender_name: &'a str,
    /// Transaction id.
    pub tx_id: &'a [u8],
    /// Chain id.
    pub chain_id: &'a str,
    /// Height of the block.
    pub height: u64,
    /// Time of the block in milliseconds.
    pub time_ms: u64,
}

/// Full state keys a call may touch; where only the beginning of a key is known, that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// Keys read.
    pub reads: Vec<Vec<u8>>,
    /// Keys written or deleted.
    pub writes: Vec<Vec<u8>>,
    /// Counters added to without being read.
    pub adds: Vec<Vec<u8>>,
    /// Beginnings of keys that are read.
    pub read_prefixes: Vec<Vec<u8>>,
    /// Beginnings of keys that are written or added to.
    pub write_prefixes: Vec<Vec<u8>>,
    /// Whether keys of other contracts may come on top.
    pub calls_out: bool,
}

impl Prediction {
    /// Whether every key is known in full.
    pub fn is_complete(&self) -> bool {
        self.read_prefixes.is_empty() && self.write_prefixes.is_empty() && !self.calls_out
    }
}

/// The access templates of one contract.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    types: Types,
    methods: HashMap<String, Method>,
}

#[derive(Clone, Debug)]
struct Method {
    arguments: Vec<Kind>,
    reads: Vec<Key>,
    writes: Vec<Key>,
    adds: Vec<Key>,
    /// Whether it calls other contracts, whose keys are not among these.
    calls_out: bool,
}

#[derive(Clone, Debug)]
struct Key {
    storage: u8,
    parts: Vec<Part>,
    /// Whether the parts are the whole key.
    whole: bool,
}

#[derive(Clone, Debug)]
enum Part {
    Constant(Vec<u8>),
    Context(Field, Kind),
    Argument(usize, Vec<usize>, Kind),
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Sender,
    SenderOrg,
    SenderRole,
    SenderName,
    Contract,
    TxId,
    ChainId,
    Height,
    TimeMs,
    Caller,
    Origin,
    Address,
}

#[derive(Deserialize)]
struct RawAbi {
    types: RawTypes,
    methods: Vec<RawMethod>,
    #[serde(default)]
    access: Vec<RawAccess>,
}

#[derive(Deserialize)]
struct RawTypes {
    structs: Vec<RawStruct>,
}

#[derive(Deserialize)]
struct RawStruct {
    name: String,
    fields: Vec<RawField>,
}

#[derive(Deserialize)]
struct RawField {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct RawMethod {
    name: String,
    args: Vec<RawField>,
}

#[derive(Deserialize)]
struct RawAccess {
    method: String,
    reads: Vec<RawKey>,
    writes: Vec<RawKey>,
    adds: Vec<RawKey>,
    /// Absent means that it does not.
    #[serde(default)]
    calls_out: bool,
}

#[derive(Deserialize)]
struct RawKey {
    storage: u8,
    key: Vec<RawPart>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPart {
    Constant {
        constant: String,
    },
    Context {
        context: String,
        #[serde(rename = "as")]
        kind: String,
    },
    Argument {
        argument: usize,
        path: Vec<usize>,
        #[serde(rename = "as")]
        kind: String,
    },
    Unknown {
        #[serde(rename = "unknown")]
        _unknown: bool,
    },
}

impl Templates {
    /// The templates of an ABI; none where it has none or is not understood.
    pub fn parse(abi: &[u8]) -> Self {
        serde_json::from_slice::<RawAbi>(abi)
            .ok()
            .and_then(Self::build)
            .unwrap_or_default()
    }

    fn build(raw: RawAbi) -> Option<Self> {
        let mut types = Types::default();
        for item in &raw.types.structs {
            types.define(&item.name, item.fields.iter().map(|field| &*field.kind))?;
        }
        let mut methods = HashMap::new();
        for access in raw.access {
            let method = raw.methods.iter().find(|item| item.name == access.method)?;
            let arguments = method
                .args
                .iter()
                .map(|argument| types.parse(&argument.kind));
            let method = Method {
                arguments: arguments.collect::<Option<_>>()?,
                reads: key_templates(&types, access.reads)?,
                writes: key_templates(&types, access.writes)?,
                adds: key_templates(&types, access.adds)?,
                calls_out: access.calls_out,
            };
            methods.insert(access.method, method);
        }
        Some(Self { types, methods })
    }

    /// What a call will touch; `None` where there is no template or the arguments do not fit it.
    pub fn predict(
        &self,
        contract: &str,
        method: &str,
        args: &[u8],
        context: &CallContext<'_>,
    ) -> Option<Prediction> {
        let method = self.methods.get(method)?;
        let call = Call {
            prefix: keys::storage_prefix(contract),
            address: OnceCell::new(),
            contract,
            context,
            types: &self.types,
            places: self.types.places(&method.arguments, args)?,
            args,
        };
        let mut found = Prediction {
            calls_out: method.calls_out,
            ..Prediction::default()
        };
        call.fill(&method.reads, &mut found.reads, &mut found.read_prefixes)?;
        call.fill(&method.writes, &mut found.writes, &mut found.write_prefixes)?;
        call.fill(&method.adds, &mut found.adds, &mut found.write_prefixes)?;
        Some(found)
    }
}

fn key_templates(types: &Types, raw: Vec<RawKey>) -> Option<Vec<Key>> {
    if raw.len() > TEMPLATES_MAX {
        return None;
    }
    raw.into_iter()
        .map(|key| key_template(types, key))
        .collect()
}

fn key_template(types: &Types, raw: RawKey) -> Option<Key> {
    let mut key = Key {
        storage: raw.storage,
        parts: Vec::with_capacity(raw.key.len()),
        whole: true,
    };
    for part in raw.key {
        key.parts.push(match part {
            RawPart::Constant { constant } => Part::Constant(unhex(&constant)?),
            RawPart::Context { context, kind } => {
                Part::Context(field(&context)?, types.parse(&kind)?)
            }
            RawPart::Argument {
                argument,
                path,
                kind,
            } => Part::Argument(argument, path, types.parse(&kind)?),
            RawPart::Unknown { .. } => {
                key.whole = false;
                break;
            }
        });
    }
    Some(key)
}

fn field(name: &str) -> Option<Field> {
    Some(match name {
        "sender" => Field::Sender,
        "sender_org" => Field::SenderOrg,
        "sender_role" => Field::SenderRole,
        "sender_name" => Field::SenderName,
        "contract" => Field::Contract,
        "tx_id" => Field::TxId,
        "chain_id" => Field::ChainId,
        "height" => Field::Height,
        "time_ms" => Field::TimeMs,
        "caller" => Field::Caller,
        "origin" => Field::Origin,
        "address" => Field::Address,
        _ => return None,
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let [high, low] = pair else { return None };
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        })
        .collect()
}

/// One call being filled in.
struct Call<'a> {
    prefix: Vec<u8>,
    address: OnceCell<chain_types::Hash>,
    contract: &'a str,
    context: &'a CallContext<'a>,
    types: &'a Types,
    places: Vec<Place<'a>>,
    args: &'a [u8],
}

impl Call<'_> {
    fn fill(
        &self,
        templates: &[Key],
        keys: &mut Vec<Vec<u8>>,
        prefixes: &mut Vec<Vec<u8>>,
    ) -> Option<()> {
        for template in templates {
            let mut key = Vec::with_capacity(self.prefix.len() + 1 + 32 * template.parts.len());
            key.extend_from_slice(&self.prefix);
            key.push(template.storage);
            for part in &template.parts {
                self.part(part, &mut key)?;
            }
            let into = if template.whole {
                &mut *keys
            } else {
                &mut *prefixes
            };
            // A call to oneself fills two templates alike.
            if !into.contains(&key) {
                into.push(key);
            }
        }
        Some(())
    }

    fn part(&self, part: &Part, key: &mut Vec<u8>) -> Option<()> {
        match part {
            Part::Constant(bytes) => {
                key.extend_from_slice(bytes);
                Some(())
            }
            Part::Context(field, kind) => match self.context_value(*field) {
                Ok(bytes) => kind.key_of_bytes(bytes, key),
                Err(number) => kind.key_of_integer(i128::from(number), key),
            },
            Part::Argument(index, path, kind) => {
                let place = self.places.get(*index)?;
                let (found, bytes) = self.types.walk(place, path, self.args)?;
                kind.key_of_argument(found, bytes, key)
            }
        }
    }

    fn context_value(&self, field: Field) -> Result<&[u8], u64> {
        let context = self.context;
        Ok(match field {
            // Templates are for what a member calls.
            Field::Sender | Field::Origin => context.sender,
            Field::Caller => b"",
            Field::Address => {
                let address = || chain_vm::contract_address(self.contract.as_bytes());
                self.address.get_or_init(address)
            }
            Field::SenderOrg => context.sender_org.as_bytes(),
            Field::SenderRole => context.sender_role.as_bytes(),
            Field::SenderName => context.sender_name.as_bytes(),
            Field::Contract => self.contract.as_bytes(),
            Field::TxId => context.tx_id,
            Field::ChainId => context.chain_id.as_bytes(),
            Field::Height => return Err(context.height),
            Field::TimeMs => return Err(context.time_ms),
        })
    }
}
