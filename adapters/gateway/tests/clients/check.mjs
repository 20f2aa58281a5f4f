// What unmodified clients of Node see of a gateway. Its base URL is the one argument.

import assert from 'node:assert/strict';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';
import OpenAI from 'openai';

const baseURL = process.argv[2];
const client = new OpenAI({ baseURL, apiKey: 'none' });
const model = 'haggle-tiny-stories';
const messages = [{ role: 'user', content: 'Once upon a time' }];
const checks = {
    async models_are_found() {
        const found = await client.models.retrieve(model);
        assert.equal(found.id, model);
        assert.equal(found.object, 'model');
    },

    async a_chat_is_answered() {
        const { data, request_id } = await client.chat.completions.create({ model, messages, max_tokens: 12 }).withResponse();
        assert.ok(data.choices[0].message.content);
        assert.equal(data.choices[0].finish_reason, 'length');
        assert.equal(data.usage.completion_tokens, 12);
        assert.match(request_id, /^req_/);
    },

    async a_chat_is_streamed() {
        const asked = { model, messages, max_tokens: 12, stream: true, stream_options: { include_usage: true } };
        let text = '';
        let last;
        for await (const chunk of await client.chat.completions.create(asked)) {
            text += chunk.choices[0]?.delta?.content ?? '';
            last = chunk;
        }
        assert.ok(text);
        assert.deepEqual(last.choices, []);
        assert.equal(last.usage.completion_tokens, 12);
    },

    async the_helper_puts_it_together() {
        const stream = client.chat.completions.stream({ model, messages, max_tokens: 12 });
        const answer = await stream.finalChatCompletion();
        assert.ok(answer.choices[0].message.content);
    },

    async a_stream_is_aborted_and_the_next_is_served() {
        for (let n = 0; n < 6; n += 1) {
            const stream = await client.chat.completions.create({ model, messages, max_tokens: 200, stream: true });
            for await (const chunk of stream) {
                assert.equal(chunk.object, 'chat.completion.chunk');
                stream.controller.abort();
                break;
            }
        }
        const answer = await client.chat.completions.create({ model, messages, max_tokens: 4 });
        assert.equal(answer.usage.completion_tokens, 4);
    },

    async a_response_is_given_and_streamed() {
        const whole = await client.responses.create({ model, input: 'Once upon a time', max_output_tokens: 8 });
        assert.equal(whole.status, 'incomplete');
        assert.ok(whole.output_text);
        const stream = client.responses.stream({ model, input: 'Once upon a time' });
        let text = '';
        for await (const event of stream) {
            if (event.type === 'response.output_text.delta') text += event.delta;
        }
        const answer = await stream.finalResponse();
        assert.equal(answer.status, 'completed');
        assert.equal(answer.output_text, text);
    },

    async refusals_have_their_kinds() {
        const create = (more, options) => client.chat.completions.create({ model, messages, max_tokens: 4, ...more }, options);
        await assert.rejects(create({ model: 'nobody/has:this' }), (error) => {
            assert.ok(error instanceof OpenAI.NotFoundError);
            assert.deepEqual([error.status, error.code, error.param], [404, 'model_not_found', 'model']);
            return /^req_/.test(error.requestID);
        });
        await assert.rejects(create({ n: 2 }), (error) => error instanceof OpenAI.BadRequestError && error.param === 'n');
        const poor = { headers: { 'x-haggle-budget': '0.000001' } };
        await assert.rejects(create({}, poor), (error) => error.status === 402 && error.error.details.required > 0);
    },

    async the_ai_sdk_buys_by_chats() {
        const { chatModel } = createOpenAICompatible({ name: 'market', baseURL, includeUsage: true });
        const whole = await generateText({ model: chatModel(model), prompt: 'Once upon a time', maxOutputTokens: 8 });
        assert.ok(whole.text);
        assert.equal(whole.finishReason, 'length');
        assert.equal(whole.usage.outputTokens, 8);
        await streams(chatModel(model));
    },

    async the_ai_sdk_buys_by_responses() {
        const market = createOpenAI({ baseURL, apiKey: 'none' });
        const whole = await generateText({ model: market(model), prompt: 'Once upon a time', maxOutputTokens: 8 });
        assert.ok(whole.text);
        assert.equal(whole.finishReason, 'length');
        assert.equal(whole.usage.outputTokens, 8);
        await streams(market(model));
        await streams(market.chat(model));
    },

    async the_ai_sdk_has_its_tools_called() {
        const weather = tool({
            inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }),
            execute: async ({ city }) => `rain in ${city}`,
        });
        const market = createOpenAI({ baseURL, apiKey: 'none' });
        for (const of of [market('caller'), market.chat('caller')]) {
            const asked = { model: of, prompt: 'How is the weather?', tools: { weather }, stopWhen: stepCountIs(3) };
            assert.equal((await generateText(asked)).text, 'The tool says: rain in Ulm');
            assert.equal(await streamText(asked).text, 'The tool says: rain in Ulm');
        }
    },

    async the_ai_sdk_is_told_why_not() {
        const { chatModel } = createOpenAICompatible({ name: 'market', baseURL });
        const asked = { model: chatModel('nobody/has:this'), prompt: 'a', maxRetries: 0 };
        await assert.rejects(generateText(asked), (error) => error.statusCode === 404 && /nobody sells/.test(error.message));
    },
};

async function streams(of) {
    let broke;
    const stream = streamText({ model: of, prompt: 'Once upon a time', maxOutputTokens: 8, onError: (told) => { broke = told.error; } });
    let text = '';
    for await (const piece of stream.textStream) text += piece;
    assert.equal(broke, undefined);
    assert.ok(text);
    assert.equal(await stream.finishReason, 'length');
    assert.equal((await stream.usage).outputTokens, 8);
}

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
    try {
        await check();
        console.log(`ok      ${name}`);
    } catch (error) {
        failed += 1;
        console.log(`FAILED  ${name}: ${error.stack ?? error}`);
    }
}
const all = Object.keys(checks).length;
console.log(`${all - failed} of ${all} checks of Node's clients hold`);
process.exit(failed > 0 ? 1 : 0);
