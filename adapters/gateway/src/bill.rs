//! A bill, as answers, streams and `GET /v1/haggle/jobs/{id}` show it. Money is in units.

use haggle::{core::event::Bill, id};
use serde_json::{Value, json};

use crate::units::units;

pub(crate) fn json(bill: &Bill) -> Value {
    let lines: Vec<Value> = bill
        .lines
        .iter()
        .map(|line| {
            json!({
                "attempt": line.attempt, "provider": id::to_libp2p(&line.peer).map(|peer| peer.to_string()),
                "fee_in": units(line.tariff.fee_in), "price_out": units(line.tariff.price_out),
                "reread": line.reread, "tokens": line.tokens, "owed": units(line.owed),
            })
        })
        .collect();
    json!({"owed": units(bill.owed), "tokens": bill.tokens, "settlement": bill.settlement, "lines": lines})
}
