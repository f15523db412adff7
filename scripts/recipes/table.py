"""The recipes, by the name of their stage, which is that of the task except for stages that others start from."""

from . import all_in_one, ct_denoise, mri_sr, pet_low_count

RECIPES = {
    recipe.stage: recipe
    for recipe in (
        ct_denoise.FIRST_RECIPE,
        ct_denoise.SECOND_RECIPE,
        ct_denoise.RECIPE,
        mri_sr.RECIPE,
        pet_low_count.RECIPE,
        all_in_one.RECIPE,
    )
}
