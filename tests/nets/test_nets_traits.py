"""What a network says of itself is found; what it does not say is at its default."""

import pytest
from torch import nn

from pairfree.nets import traits


class Silent(nn.Module):
    """Says nothing, though two of its layers have names of statements."""

    def __init__(self):
        super().__init__()
        self.seconds = nn.ModuleList([nn.Conv2d(1, 1, 1)])
        self.progress = nn.Identity()


class Talkative(nn.Module):
    stride = 4
    whole_image = True
    measured_from_data = True

    def __init__(self):
        super().__init__()
        self.progress = None

    def receptive_field_px(self, channels):
        return 10 * channels

    def whole_bytes(self, channels):
        return 100, 7 * channels

    def seconds(self, channels, height, width):
        return channels * height * width


def test_a_silent_network_is_at_its_defaults():
    net, heard = Silent(), []
    assert traits.total_stride(net) == 1
    assert not traits.sees_whole_image(net)
    assert not traits.is_measured_from_data(net)
    assert traits.stated_receptive_field_px(net, 3) is None
    assert traits.whole_image_bytes(net, 3) == (0.0, 0.0)
    assert traits.seconds_for_image(net, 3, 4, 5) is None
    with traits.hear_progress(net, heard.append) as hears:
        assert not hears


def test_what_a_network_says_is_found():
    net, heard = Talkative(), []
    assert traits.total_stride(net) == 4
    assert traits.sees_whole_image(net)
    assert traits.is_measured_from_data(net)
    assert traits.stated_receptive_field_px(net, 3) == 30
    assert traits.whole_image_bytes(net, 3) == (100.0, 21.0)
    assert traits.seconds_for_image(net, 3, 4, 5) == 60.0
    with traits.hear_progress(net, heard.append) as hears:
        assert hears
        net.progress(0.5)
    assert heard == [0.5]
    assert net.progress is None


def test_a_network_that_fails_is_not_listened_to_any_more():
    net = Talkative()
    with pytest.raises(KeyError), traits.hear_progress(net, print):
        raise KeyError
    assert net.progress is None


def test_a_stride_of_several_numbers_is_the_largest():
    assert traits.total_stride(nn.Conv2d(1, 1, 3, stride=(2, 3))) == 3
