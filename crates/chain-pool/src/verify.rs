//! Signatures of many transactions in batches.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use chain_crypto::{verify_many, Signed, Suite};
use chain_types::{endorsement_message, sender_message, Hash};

use crate::{Admission, Candidate};

/// Marks as `BadSignature` every accepted candidate with an invalid signature, except those whose
/// wid is known to be valid.
pub(crate) fn refuse_bad_signatures(
    candidates: &mut [Candidate],
    known_valid: &HashSet<Hash>,
    threads: NonZeroUsize,
) {
    // (candidate, key, message, signature); a message is hashed only once per transaction and kind.
    let mut owners = Vec::new();
    let mut messages: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(candidates.len());
    for (place, candidate) in candidates.iter().enumerate() {
        let Some(checked) = &candidate.checked else {
            continue;
        };
        if candidate.code == Admission::Accepted && !known_valid.contains(&checked.wid) {
            messages.push((
                sender_message(&checked.tx_id),
                endorsement_message(&checked.tx_id),
            ));
            owners.push(place);
        }
    }
    let mut items = Vec::with_capacity(owners.len());
    let mut item_owners = Vec::with_capacity(owners.len());
    for (place, (sent, endorsed)) in owners.iter().zip(&messages) {
        let Some(checked) = &candidates[*place].checked else {
            continue;
        };
        items.push(Signed {
            public_key: &checked.payload.sender,
            message: sent,
            signature: &checked.signature,
        });
        item_owners.push(*place);
        for (endorser, signature) in &checked.endorsements {
            items.push(Signed {
                public_key: endorser,
                message: endorsed,
                signature,
            });
            item_owners.push(*place);
        }
    }
    let verdicts = verify_many(Suite::Ed25519, &items, threads);
    drop(items);
    for (place, valid) in item_owners.into_iter().zip(verdicts) {
        if !valid {
            candidates[place].code = Admission::BadSignature;
        }
    }
}
