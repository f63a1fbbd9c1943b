"""Fine-tune HunyuanDiT on captioned images, evaluate its checkpoints by the images they generate, and keep the best.

Examples:
  train_hunyuandit.py --tiny --data captions.csv --output-dir out --max-steps 12 --ckpt-every 2
                                    a small model with random weights: to try it, on any machine
  train_hunyuandit.py --pretrained Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers --data photos/ --output-dir out
  train_hunyuandit.py ... --resume  the same command again: resume after a kill, or with more --max-steps
  accelerate launch --num_processes 8 train_hunyuandit.py ...    several GPUs
  accelerate launch --config_file deepspeed.yaml train_hunyuandit.py ...
                                    DeepSpeed, ZeRO stage 1 or 2; its checkpoints are directories
"""

import math
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from hunyuandit.flags import parser

from dploss.cli.main import INTERRUPTED, interrupt_flag
from dploss.errors import InputError as DplossInputError
from dploss.text import counted
from metrics import InputError

_MAX_GRADIENT_NORM = 1.0
_STEPS_BETWEEN_LINES = 10


def train(args: Namespace) -> int:
    """Train to the last step, or until Ctrl-C; returns the exit code."""
    try:
        import torch
        from diffusers.training_utils import EMAModel
        from hunyuandit.checkpoints import Checkpoints, delete
        from hunyuandit.data import CaptionedImages, Order, evenly_spaced_items, read_captioned
        from hunyuandit.evaluation import CheckpointEvaluator, say
        from hunyuandit.model import denoising_loss, generator_of, load_pipeline, place
        from hunyuandit.running import checkpoint_to_resume, claim, make_accelerator, resume_from
        from hunyuandit.tiny import tiny_pipeline
        from torch.utils.data import DataLoader
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm
    except ModuleNotFoundError as missing:
        raise InputError(
            f"{missing.name} is not installed: uv run --extra hunyuandit python examples/train_hunyuandit.py ..."
        ) from missing

    # The data, the model and its evaluation; nothing is written yet.
    image_size = args.image_size or (64 if args.tiny else 1024)
    items = read_captioned(args.data)
    evaluation_items = evenly_spaced_items(
        read_captioned(args.evaluation_data or args.data), args.num_evaluation_samples
    )
    resumed = checkpoint_to_resume(args.output_dir, args.resume)
    accelerator = make_accelerator(args)
    is_main = accelerator.is_main_process
    if args.tiny:
        # For so small a model threads cost more than they save.
        torch.set_num_threads(1)
    pipeline = tiny_pipeline(image_size, args.seed) if args.tiny else load_pipeline(args.pretrained)
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(accelerator.mixed_precision, torch.float32)
    place(pipeline, accelerator.device, frozen_dtype=half)
    transformer = pipeline.transformer
    optimizer = torch.optim.AdamW(transformer.parameters(), lr=args.lr, weight_decay=0.0)
    ema = None
    if args.ema_decay:
        configuration = {"model_cls": type(transformer), "model_config": transformer.config}
        ema = EMAModel(transformer.parameters(), decay=args.ema_decay, **configuration)
    model, optimizer = accelerator.prepare(transformer, optimizer)
    evaluator = None
    if not args.no_evaluation:
        evaluator = CheckpointEvaluator(accelerator, pipeline, ema, evaluation_items, image_size, args)
        evaluator.choose_metrics()

    # The checkpoint that it starts from, and what is kept.
    lock = claim(args.output_dir) if is_main else None
    config = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    config |= {"images": len(items), "image_size": image_size, "processes": accelerator.num_processes}
    directories = args.checkpoint_dirs or accelerator.state.deepspeed_plugin is not None
    checkpoints = Checkpoints(
        args.output_dir, accelerator, transformer, optimizer, ema, directories=directories, config=config
    )
    done = 0 if resumed is None else resume_from(checkpoints, resumed)
    batches_a_step = args.gradient_accumulation * accelerator.num_processes
    order = Order(
        len(items),
        args.batch_size,
        batches=batches_a_step,
        seed=args.seed,
        first_step=done,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    images = CaptionedImages(items, image_size)
    batches = iter(DataLoader(images, batch_sampler=order, num_workers=args.num_workers))
    log = SummaryWriter(args.output_dir / "tensorboard_logs", purge_step=done + 1) if is_main else None
    if evaluator is not None:
        evaluator.open_tracker(args.output_dir, resumed)

    def is_due(step: int) -> bool:
        return evaluator is not None and (step % (args.ckpt_every * args.eval_every) == 0 or step == args.max_steps)

    if is_main:
        parameters = sum(weights.numel() for weights in transformer.parameters())
        processes = counted(accelerator.num_processes, "process", "processes")
        say(
            f"{counted(len(items), 'image')} of {image_size} x {image_size}, {parameters:,} parameters, "
            f"{accelerator.device}, {processes}, {accelerator.mixed_precision} mixed precision, "
            f"{counted(args.batch_size * batches_a_step, 'image')} a step, {done} of {args.max_steps} steps done"
        )
    if resumed is not None and is_due(done) and not evaluator.is_tracked(resumed):
        evaluator.evaluate(done, order.epoch(done), resumed, log)

    # The loop.
    unevaluated: Path | None = None
    loss = math.nan
    bar = tqdm(initial=done, total=args.max_steps, unit="step", leave=False, disable=None if is_main else True)
    with interrupt_flag() as should_stop, bar:
        for step in range(done + 1, args.max_steps + 1):
            if should_stop():
                accelerator.set_trigger()
            if accelerator.check_trigger():
                path = resumed if step == done + 1 else checkpoints.save(step - 1, order.epoch(step - 1))
                if is_main:
                    saved = f"saved {path}; resume with the same command and --resume" if path else "nothing to save"
                    say(f"interrupted after step {step - 1}; {saved}")
                    log.close()
                return INTERRUPTED

            total = torch.zeros((), device=accelerator.device)
            for number in range(args.gradient_accumulation):
                batch = next(batches)
                # All random numbers follow from the seed, the step and the batch in it: a resumed training draws the
                # same, and several processes draw what one does that accumulates as many batches.
                batch_of_step = number * accelerator.num_processes + accelerator.process_index
                generator = generator_of(args.seed, step, batch_of_step)
                dropped = torch.rand(len(batch["caption"]), generator=generator) < args.caption_dropout
                captions = ["" if drop else text for text, drop in zip(batch["caption"], dropped, strict=True)]
                with accelerator.accumulate(model):
                    part = denoising_loss(pipeline, model, batch["pixels"], captions, generator)
                    accelerator.backward(part)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), _MAX_GRADIENT_NORM)
                    optimizer.step()
                    optimizer.zero_grad()
                total += part.detach() / args.gradient_accumulation
            if ema is not None:
                ema.step(transformer.parameters())
            loss = accelerator.reduce(total, "mean").item()
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"loss is NaN or infinite at step {step}; lower --lr (try {args.lr / 10:g}) or check the data; "
                    "the last checkpoint is intact"
                )

            bar.update()
            if is_main:
                log.add_scalar("Loss/Train", loss, step)
                if step % _STEPS_BETWEEN_LINES == 0 or step == args.max_steps:
                    say(f"[Step {step}] Loss: {loss:.4f}, Epoch {order.epoch(step)}")

            if step % args.ckpt_every and step != args.max_steps:
                continue
            if is_main:
                # Steps before the checkpoint are not trained again, so their log must be on disk.
                log.flush()
            path = checkpoints.save(step, order.epoch(step))
            if is_main:
                say(f"[Step {step}] Saved {path}")
            if is_due(step):
                evaluator.evaluate(step, order.epoch(step), path, log)
            # A checkpoint without evaluation is only for resuming, until there is a newer one.
            if is_main and unevaluated is not None:
                delete(unevaluated)
            protected = args.keep_every_n_steps and step % args.keep_every_n_steps == 0
            unevaluated = None if evaluator is None or args.no_prune or is_due(step) or protected else path

    if is_main:
        log.close()
        lock.release()
        said = "" if done >= args.max_steps else f", loss {loss:.6f}"
        print(f"completed: {counted(args.max_steps, 'step')}{said}")
        if evaluator is not None:
            evaluator.tracker.export_results()
            evaluator.tracker.print_summary()
        print(args.output_dir)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    args = parser(__doc__).parse_args(argv)
    code, reason = 0, ""
    try:
        return train(args)
    except (InputError, DplossInputError) as error:
        code, reason = 2, str(error)
    except (OSError, FloatingPointError) as error:
        code, reason = 1, str(error)
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        code, reason = 1, f"out of memory: {error}; try a smaller --batch-size or --image-size, or --ema-decay 0"
    except KeyboardInterrupt:
        code, reason = INTERRUPTED, "interrupted"
    print(f"train_hunyuandit.py: {' '.join(reason.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
