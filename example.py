"""The model as a library: losses in training, detections in evaluation, on dummy boxes.

python example.py
"""

from __future__ import annotations

import torch

from model.efficient_retinanet import get_efficient_retinanet


def main() -> None:
    """One training step and one detection on random images."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    # Six classes and the background. Nothing is downloaded: the weights are random.
    model = get_efficient_retinanet(
        num_classes=7,
        efficientnet_model_name="efficientnet-b0",
        backbone_weights="none",
        image_size=256,
    ).to(device)

    # A list of images of any size, float in 0..1, and for each its boxes (x1, y1, x2, y2 in
    # pixels) with their labels. The second image has no objects, which is an ordinary case.
    images = [torch.rand(3, 240, 320, device=device), torch.rand(3, 200, 200, device=device)]
    targets = [
        {
            "boxes": torch.tensor([[20.0, 30.0, 120.0, 160.0], [150, 60, 290, 210]], device=device),
            "labels": torch.tensor([1, 6], device=device),
        },
        {
            "boxes": torch.zeros(0, 4, device=device),
            "labels": torch.zeros(0, dtype=torch.int64, device=device),
        },
    ]

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()
    losses = model(images, targets)
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    print("losses:", {name: round(loss.item(), 3) for name, loss in losses.items()})

    model.eval()
    with torch.no_grad():
        detections = model(images)
    for image, detected in zip(images, detections, strict=True):
        shapes = {name: tuple(values.shape) for name, values in detected.items()}
        print(f"detections in an image of {tuple(image.shape)}: {shapes}")


if __name__ == "__main__":
    main()
