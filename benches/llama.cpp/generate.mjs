// Lets llama.cpp answer the questions of adapters/engine/examples/speed.rs, and prints how many tokens it read and
// wrote in a second, and in a second of one core's time. Run by compare.sh.
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [file, count] = [process.argv[2], Number(process.argv[3])];
const questions = [
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "Explain in three sentences how a bicycle stays upright.",
];
const system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
const now = () => { const { user, system } = process.cpuUsage(); return [performance.now(), (user + system) / 1000]; };
const rate = ([a, b], [c, d], n) => `${n} at ${((n / (c - a)) * 1000).toFixed(1)}/s, ${((n / (d - b)) * 1000).toFixed(1)} a core second`;
const llama = await getLlama({ gpu: false, build: "never", maxThreads: 1, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: file });
for (const question of questions) {
    const prompt = `<|im_start|>system\n${system}<|im_end|>\n<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n`;
    const context = await model.createContext({ contextSize: 1024, threads: 1 });
    const tokens = model.tokenize(prompt, true);
    const began = now();
    let first, written = 0;
    for await (const token of context.getSequence().evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
        first ??= now();
        written += 1;
        if (model.isEogToken(token) || written > count) break;
    }
    console.log(`read ${rate(began, first, tokens.length)}, wrote ${rate(first, now(), written - 1)}`);
    await context.dispose();
}
process.exit(0);
