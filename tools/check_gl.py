"""Exit with 0 if a camera can be rendered here, else with 1 and the reason in one line."""

import sys

from vla.core.errors import RenderError
from vla.envs.gl import require_gl

SCENE = """
<mujoco>
  <worldbody>
    <light pos="0 0 2"/>
    <geom type="box" size="1 1 1" rgba="1 1 1 1"/>
    <camera name="above" pos="0 0 3"/>
  </worldbody>
</mujoco>
"""


def main() -> int:
    """Render a white box and look whether anything was drawn."""
    try:
        require_gl()
    except RenderError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    import mujoco

    from vla.envs.rendering import CameraRenderer

    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = CameraRenderer(model, 16, 16)
    drawn = int(renderer.render(data, "above").max())
    if drawn < 64:
        sys.stderr.write(f"{renderer.description} renders nothing: the brightest pixel of a white box is {drawn}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
