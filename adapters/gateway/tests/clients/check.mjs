// What unmodified clients of Node see of a gateway. Its base URL is the one argument.

import assert from 'node:assert/strict';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embed, generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from 'ai';
import OpenAI from 'openai';

const baseURL = process.argv[2];
const client = new OpenAI({ baseURL, apiKey: 'none' });
const model = 'haggle-tiny-stories';
const messages = [{ role: 'user', content: 'Once upon a time' }];
const city = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false };
const pixel = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
const tools = ['weather', 'traffic'].map((name) => ({ type: 'function', function: { name, parameters: city } }));
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

    async calls_of_tools_are_put_together() {
        const asked = { model: 'caller', messages, tools };
        const whole = (await client.chat.completions.create(asked)).choices[0];
        const streamed = (await client.chat.completions.stream(asked).finalChatCompletion()).choices[0];
        for (const { message, finish_reason } of [whole, streamed]) {
            assert.equal(finish_reason, 'tool_calls');
            assert.deepEqual(message.tool_calls.map((call) => call.function.name), ['weather', 'traffic']);
            for (const call of message.tool_calls) assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Ulm' });
        }
        const results = whole.message.tool_calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: 'rain' }));
        const then = { ...asked, messages: [...messages, whole.message, ...results] };
        assert.equal((await client.chat.completions.create(then)).choices[0].message.content, 'The tool says: rain and rain');
        const runner = client.chat.completions.runTools({
            model: 'caller', messages, tools: [{ type: 'function', function: { ...tools[0].function, parse: JSON.parse, function: (at) => `fog in ${at.city}` } }],
        });
        assert.equal(await runner.finalContent(), 'The tool says: fog in Ulm');
    },

    async an_answer_has_its_schema() {
        const response_format = { type: 'json_schema', json_schema: { name: 'place', schema: city, strict: true } };
        const parsed = await client.chat.completions.parse({ model: 'caller', messages, response_format });
        assert.deepEqual(JSON.parse(parsed.choices[0].message.content), { city: 'Ulm' });
        const market = createOpenAI({ baseURL, apiKey: 'none' });
        const { chatModel } = createOpenAICompatible({ name: 'market', baseURL, supportsStructuredOutputs: true });
        for (const of of [market('caller'), market.chat('caller'), chatModel('caller')]) {
            const asked = { model: of, schema: jsonSchema(city), prompt: 'Where?' };
            assert.deepEqual((await generateObject(asked)).object, { city: 'Ulm' });
            let last;
            for await (const object of streamObject(asked).partialObjectStream) last = object;
            assert.deepEqual(last, { city: 'Ulm' });
        }
    },

    async images_and_thoughts_pass() {
        const market = createOpenAI({ baseURL, apiKey: 'none' });
        const { chatModel } = createOpenAICompatible({ name: 'market', baseURL });
        const content = [{ type: 'text', text: 'What is it?' }, { type: 'image', image: pixel, mediaType: 'image/png' }];
        for (const of of [market('caller'), market.chat('caller'), chatModel('caller')]) {
            assert.equal((await generateText({ model: of, messages: [{ role: 'user', content }] })).text, '1 of data:image/png');
        }
        const providerOptions = { market: { reasoningEffort: 'low' } };
        const told = await generateText({ model: chatModel('caller'), prompt: 'Why?', providerOptions });
        assert.deepEqual([told.reasoningText, told.text], ['Let me see. ', 'Nothing was asked.']);
    },

    async what_is_aborted_before_it_is_answered_is_over() {
        const slow = { model, messages, max_tokens: 300 };
        const aborted = new AbortController();
        const whole = client.chat.completions.create(slow, { signal: aborted.signal });
        aborted.abort();
        await assert.rejects(whole, OpenAI.APIUserAbortError);
        await assert.rejects(client.chat.completions.create(slow, { timeout: 1, maxRetries: 0 }), OpenAI.APIConnectionTimeoutError);
        const market = createOpenAI({ baseURL, apiKey: 'none' });
        const now = AbortSignal.abort();
        await assert.rejects(generateText({ model: market(model), prompt: 'a', abortSignal: now }));
        assert.ok((await client.chat.completions.create({ ...slow, max_tokens: 2 })).choices[0].message.content);
    },

    async every_error_has_its_class() {
        const once = client.withOptions({ maxRetries: 0 });
        const create = (more, options) => once.chat.completions.create({ model, messages, max_tokens: 4, ...more }, options);
        await assert.rejects(once.embeddings.create({ model, input: 'a' }), OpenAI.NotFoundError);
        await assert.rejects(once.models.retrieve('nobody/has:this'), OpenAI.NotFoundError);
        await assert.rejects(create({}, { headers: { Origin: 'https://evil.example' } }), OpenAI.PermissionDeniedError);
        await assert.rejects(create({ messages: [] }), OpenAI.BadRequestError);
        await assert.rejects(create({ messages: [{ role: 'user', content: 'word '.repeat(2000) }] }), (error) => error.code === 'context_length_exceeded');
        for (const megabytes of [3, 5, 12]) {
            const huge = [{ role: 'user', content: 'a'.repeat(megabytes << 20) }];
            await assert.rejects(create({ messages: huge }), (error) => error.code === 'request_too_large' || error.code === 'context_length_exceeded');
        }
        const { embeddingModel } = createOpenAICompatible({ name: 'market', baseURL });
        await assert.rejects(embed({ model: embeddingModel(model), value: 'a', maxRetries: 0 }), (error) => error.statusCode === 404);
        const streamed = client.chat.completions.create({ model, messages, stream: true, n: 2 });
        await assert.rejects(streamed, (error) => error instanceof OpenAI.BadRequestError && error.code === 'unsupported_parameter');
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
