//! The VLAN of an input or output, as users write it: `vlan`, and `outer_vlan` where frames have two tags.

use std::fmt;

use mcr_wire::VlanId;

use crate::address::ValueError;
use crate::problem::FieldError;

const RANGE: &str = "use 1 to 4094";

/// The checked VLAN of the input or output that stands at `part`.
pub(crate) fn check(part: &str, number: Option<i64>, outer: Option<i64>) -> Result<Option<VlanId>, Vec<FieldError>> {
    let number = number.map(|given| id(given, "vlan", format!("{part}.vlan"))).transpose();
    let outer = outer.map(|given| id(given, "outer_vlan", format!("{part}.outer_vlan"))).transpose();
    match (number, outer) {
        (Ok(Some(number)), Ok(Some(outer))) => Ok(number.within(outer.get())),
        (Ok(number), Ok(None)) => Ok(number),
        (Ok(None), Ok(Some(_))) => {
            let remedy = "add vlan, that of the inner tag; for a single tag write vlan instead";
            Err(vec![FieldError::new(format!("{part}.outer_vlan"), "an outer tag is around another one", remedy)])
        }
        (number, outer) => Err(number.err().into_iter().chain(outer.err()).collect()),
    }
}

fn id(given: i64, what: &'static str, field: String) -> Result<VlanId, FieldError> {
    let id = u16::try_from(given).ok().and_then(VlanId::new);
    id.ok_or_else(|| FieldError::new(field, ValueError::OutOfRange { what, given }.to_string(), RANGE))
}

/// The values of `vlan` and `outer_vlan`.
pub(crate) fn spec(vlan: Option<VlanId>) -> (Option<i64>, Option<i64>) {
    (vlan.map(|vlan| vlan.get().into()), vlan.and_then(VlanId::outer).map(i64::from))
}

/// Writes the options of endpoint text.
pub(crate) fn write_options(vlan: Option<VlanId>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    vlan.iter().try_for_each(|vlan| write!(f, ",vlan={}", vlan.get()))?;
    vlan.and_then(VlanId::outer).iter().try_for_each(|outer| write!(f, ",outer-vlan={outer}"))
}
