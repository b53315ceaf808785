//! Any text where a person types an endpoint: nothing panics, refusals say something, and what is shown of an endpoint is one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcr_model::spec::{InputSpec, OutputSpec};

fuzz_target!(|text: &str| {
    match InputSpec::from_endpoint(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(spec) => {
            if let Ok(input) = spec.check("input") {
                let shown = InputSpec::from_endpoint(&input.to_string()).expect("what is shown can be typed");
                assert_eq!(shown.check("input").expect("and means something"), input);
            }
        }
    }
    if let Ok(output) = OutputSpec::from_endpoint(text).map_err(|error| error.to_string()).and_then(checked) {
        let again = OutputSpec::from(&output).check("output").expect("what was checked is good");
        assert_eq!(again, output);
    }
});

fn checked(spec: OutputSpec) -> Result<mcr_model::Output, String> {
    spec.check("output").map_err(|errors| {
        assert!(!errors.is_empty(), "a refusal has a reason");
        errors[0].to_string()
    })
}
