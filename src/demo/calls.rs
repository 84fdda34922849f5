//! How model and tool calls of a run are said: each is a small sequence of messages over some time.

use std::mem;

use super::dice::Dice;
use super::prose;
use super::run::Run;
use super::saying::{Said, event, flag, float, int, text};
use super::script::{Call, CallStage, Speech, Step};
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::error::Severity;
use crate::wire::proto::token_chunk::FinishReason;
use crate::wire::proto::tool_execution::ExecutionStage;
use crate::wire::proto::{Event, EventType, TokenChunk, TokenStats, ToolExecution};

impl Run {
    /// `LLM_START`, perhaps `LLM_RETRY`, the answer word by word, `LLM_END`.
    pub(super) fn speak(
        &mut self,
        mut speech: Box<Speech>,
        steps: &mut Vec<Step>,
        now_us: i64,
        dice: &mut Dice,
    ) -> Said {
        let model = self.identity.model;
        if speech.text.is_empty() {
            prose::speak(speech.voice, self.identity.topic, dice, &mut speech.text);
            speech.started_us = now_us;
            let attributes = [
                ("model", text(model)),
                ("input_tokens", int(speech.input_tokens)),
                ("temperature", float(0.2)),
                ("stream", flag(true)),
            ];
            let started = about(event(EventType::LlmStart, speech.node, attributes), &speech);
            steps.push(Step::Speak(speech));
            return Said { payload: Some(Payload::Event(started)), pause: dice.between(180, 600) };
        }
        if speech.refusals > 0 {
            speech.refusals -= 1;
            self.retries += 1;
            let attributes = [("reason", text("rate_limited")), ("attempt", int(1)), ("wait_ms", int(400))];
            let refused = about(event(EventType::LlmRetry, speech.node, attributes), &speech);
            steps.push(Step::Speak(speech));
            return Said { payload: Some(Payload::Event(refused)), pause: 400 };
        }
        if speech.said < speech.text.len() {
            let chunk = self.chunk(&mut speech, dice);
            steps.push(Step::Speak(speech));
            return Said { payload: Some(Payload::TokenChunk(chunk)), pause: dice.between(25, 75) };
        }
        let attributes = [
            ("model", text(model)),
            ("input_tokens", int(speech.input_tokens)),
            ("output_tokens", int(speech.output_tokens)),
            ("finish_reason", text("stop")),
        ];
        let mut ended = about(event(EventType::LlmEnd, speech.node, attributes), &speech);
        ended.duration_us = now_us.saturating_sub(speech.started_us);
        self.tokens += speech.output_tokens;
        self.tokens_total += speech.input_tokens + speech.output_tokens;
        self.said = mem::take(&mut speech.text);
        Said { payload: Some(Payload::Event(ended)), pause: dice.between(20, 80) }
    }

    fn chunk(&self, speech: &mut Speech, dice: &mut Dice) -> TokenChunk {
        let words = prose::next_words(&speech.text, speech.said, dice).to_owned();
        // A token is about four letters.
        let tokens = (words.len() as u64).div_ceil(4);
        speech.said += words.len();
        speech.output_tokens += tokens;
        let is_final = speech.said >= speech.text.len();
        let chunk_index = speech.chunks;
        speech.chunks += 1;
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        TokenChunk {
            header: None,
            request_id: speech.request_id.clone(),
            text: words,
            token_ids: (0..tokens).map(|_| small(dice.below(128_000))).collect(),
            logprobs: Vec::new(),
            chunk_index,
            is_final,
            finish_reason: if is_final { FinishReason::Stop } else { FinishReason::None } as i32,
            model: self.identity.model.to_owned(),
            stats: is_final.then(|| TokenStats {
                prompt_tokens: small(speech.input_tokens),
                completion_tokens: small(speech.output_tokens),
                total_tokens: small(speech.input_tokens + speech.output_tokens),
            }),
        }
    }

    /// Requested, `TOOL_START`, started, perhaps retried, completed or failed, `TOOL_END` or `TOOL_ERROR`.
    pub(super) fn call(&mut self, mut call: Box<Call>, steps: &mut Vec<Step>, now_us: i64, dice: &mut Dice) -> Said {
        let node = call.node;
        let said = match call.stage {
            CallStage::Requested => {
                call.stage = CallStage::Announced;
                call.started_us = now_us;
                let mut execution = execution(&call, ExecutionStage::Requested);
                execution.arguments = call.tool.arguments(self.identity.topic, dice).to_string().into_bytes();
                Said { payload: Some(Payload::ToolExecution(execution)), pause: dice.between(10, 40) }
            }
            CallStage::Announced => {
                call.stage = CallStage::Started;
                let attributes = [("tool_name", text(call.tool.name())), ("call_id", text(call.call_id.clone()))];
                let started = event(EventType::ToolStart, node, attributes);
                Said { payload: Some(Payload::Event(started)), pause: 10 }
            }
            CallStage::Started => {
                call.stage = CallStage::Waiting;
                let execution = execution(&call, ExecutionStage::Started);
                Said { payload: Some(Payload::ToolExecution(execution)), pause: dice.between(150, 900) }
            }
            CallStage::Waiting if call.failures > 0 => {
                call.failures -= 1;
                call.retries += 1;
                self.retries += 1;
                let (code, message) = call.tool.failure(dice);
                let mut execution = execution(&call, ExecutionStage::Retrying);
                execution.error = message.to_owned();
                let mut details = self.failure(node, code, message, dice);
                details.severity = Severity::Warning as i32;
                execution.error_details = Some(details);
                Said { payload: Some(Payload::ToolExecution(execution)), pause: dice.between(200, 700) }
            }
            CallStage::Waiting => {
                call.stage = CallStage::Ended;
                let mut execution = execution(&call, ExecutionStage::Completed);
                execution.duration_us = now_us.saturating_sub(call.started_us);
                if call.doomed {
                    let (code, message) = call.tool.failure(dice);
                    execution.stage = ExecutionStage::Failed as i32;
                    execution.error = message.to_owned();
                    execution.error_details = Some(self.failure(node, code, message, dice));
                } else {
                    execution.result = call.tool.result(self.identity.topic, dice).to_string().into_bytes();
                }
                Said { payload: Some(Payload::ToolExecution(execution)), pause: dice.between(10, 30) }
            }
            CallStage::Ended => {
                let attributes = [("tool_name", text(call.tool.name())), ("call_id", text(call.call_id.clone()))];
                let kind = if call.doomed { EventType::ToolError } else { EventType::ToolEnd };
                let mut ended = event(kind, node, attributes);
                ended.duration_us = now_us.saturating_sub(call.started_us);
                return Said { payload: Some(Payload::Event(ended)), pause: dice.between(10, 60) };
            }
        };
        steps.push(Step::Call(call));
        said
    }
}

fn about(mut event: Event, speech: &Speech) -> Event {
    event.llm_request_id = speech.request_id.clone();
    event
}

fn execution(call: &Call, stage: ExecutionStage) -> ToolExecution {
    ToolExecution {
        call_id: call.call_id.clone(),
        tool_name: call.tool.name().to_owned(),
        stage: stage as i32,
        retry_count: call.retries,
        ..ToolExecution::default()
    }
}
