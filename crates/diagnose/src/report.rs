//! The answer: the path of a packet step by step, and the first thing on it that is wrong.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is known of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ExplainMark)]
pub enum Mark {
    /// Packets pass here.
    Ok,
    /// Packets are lost here: proven.
    Fault,
    /// It could not be seen, or is worth a look.
    Unknown,
}

/// One step on the way of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ExplainStep)]
pub struct Step {
    /// Its name, as `reverse_path`; stable.
    pub step: Cow<'static, str>,
    /// What exactly, as `rp_filter_strict`; stable.
    pub code: Cow<'static, str>,
    /// Which relay, output or interface, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Whether packets pass.
    pub mark: Mark,
    /// What was observed, in a sentence without a final stop.
    pub fact: String,
    /// What it was observed from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Step {
    /// Packets pass.
    pub(crate) fn ok(step: &'static str, code: &'static str, fact: impl Into<String>) -> Self {
        Self {
            step: step.into(),
            code: code.into(),
            about: None,
            mark: Mark::Ok,
            fact: fact.into(),
            evidence: Vec::new(),
            remedy: None,
        }
    }

    /// Packets are lost here.
    pub(crate) fn fault(
        step: &'static str,
        code: &'static str,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { mark: Mark::Fault, remedy: Some(remedy.into()), ..Self::ok(step, code, fact) }
    }

    /// Nobody can say.
    pub(crate) fn unknown(step: &'static str, code: &'static str, fact: impl Into<String>) -> Self {
        Self { mark: Mark::Unknown, ..Self::ok(step, code, fact) }
    }

    /// It could not be seen.
    pub(crate) fn blind(step: &'static str, blind: &crate::Blind) -> Self {
        Self::unknown(step, "not_visible", &blind.reason).advise(&blind.remedy)
    }

    /// With what it was observed from.
    pub(crate) fn because(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    /// With what to do.
    pub(crate) fn advise(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Of this relay, output or interface.
    pub(crate) fn of(mut self, about: impl Into<String>) -> Self {
        self.about = Some(about.into());
        self
    }
}

/// The answer in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ExplainVerdict)]
pub enum Verdict {
    /// Nothing is wrong on any step that could be seen.
    Passes,
    /// The culprit is known.
    Lost,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ExplainReport)]
pub struct Report {
    /// What was asked, as endpoint text.
    pub target: String,
    /// Whether something is wrong.
    pub verdict: Verdict,
    /// The first step that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub culprit: Option<Step>,
    /// Every step, in the order of the packet's way.
    pub steps: Vec<Step>,
    /// How long the wires were looked at.
    pub look_seconds: f64,
}

impl Report {
    pub(crate) fn new(target: String, steps: Vec<Step>, look_seconds: f64) -> Self {
        let culprit = steps.iter().find(|step| step.mark == Mark::Fault).cloned();
        let verdict = if culprit.is_some() { Verdict::Lost } else { Verdict::Passes };
        Self { target, verdict, culprit, steps, look_seconds }
    }
}
