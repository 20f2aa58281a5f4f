// Buys one answer with the AI SDK, which asks again on every status that may pass; says what came of it. Arguments: base URL, model,
// "streamed" or "whole".

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';

const [baseURL, model, way] = process.argv.slice(2);
const told = { requests: 0, failed: false, status: 0 };
const counting = async (...asked) => {
    told.requests += 1;
    const answer = await fetch(...asked);
    told.status = answer.status;
    return answer;
};
const { chatModel } = createOpenAICompatible({ name: 'market', baseURL, fetch: counting });
const asked = { model: chatModel(model), prompt: 'Once upon a time', maxOutputTokens: 100 };
try {
    if (way === 'whole') {
        await generateText(asked);
    } else {
        const stream = streamText({ ...asked, onError: () => { told.failed = true; } });
        for await (const part of stream.fullStream) told.failed ||= part.type === 'error';
    }
} catch {
    told.failed = true;
}
console.log(JSON.stringify(told));
